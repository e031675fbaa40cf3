"""The cache of compiled libraries. A stand-in compiler keeps the tests quick."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from xpu_emulator import build

_VERSION = "2.14.1+test"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _compiler(tmp_path: Path, script: str) -> str:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


_WRITE_OUTPUT = """
echo run >> "$(dirname "$0")/runs"
while [ "$1" != -o ]; do shift; done
printf half > "$2"; sleep 0.3; printf whole > "$2"
"""


def test_the_cache_follows_xdg(cache: Path) -> None:
    assert build.library_path(_VERSION).is_relative_to(cache / "comfyui-ipex" / "xpu_emulator")


def test_each_torch_has_a_library_of_its_own(cache: Path) -> None:
    assert build.fingerprint("2.14.1+cpu") != build.fingerprint("2.14.1+cu130")
    assert build.fingerprint(_VERSION) == build.fingerprint(_VERSION)


def test_changed_sources_change_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build.fingerprint(_VERSION)
    (tmp_path / "emulator.cpp").write_text("// other")
    monkeypatch.setattr(build, "_SOURCES", tmp_path)
    assert build.fingerprint(_VERSION) != before


def test_a_library_is_built_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", _compiler(tmp_path, _WRITE_OUTPUT))
    first = build.build(_VERSION)
    assert build.build(_VERSION) == first
    assert (tmp_path / "runs").read_text() == "run\n"


def test_two_builders_at_a_time_never_leave_half_a_library(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", _compiler(tmp_path, _WRITE_OUTPUT))
    target = build.library_path(_VERSION)
    seen: set[str] = set()
    builders = [threading.Thread(target=build.build, args=(_VERSION,)) for _ in range(2)]
    for builder in builders:
        builder.start()
    while any(builder.is_alive() for builder in builders):
        if target.exists():
            seen.add(target.read_text())
    for builder in builders:
        builder.join()
    assert target.read_text() == "whole"
    assert seen <= {"whole"}
    assert list(target.parent.iterdir()) == [target]


def test_a_missing_compiler_is_explained(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.BuildError, match=r"needs a C\+\+ compiler.*Install one"):
        build.build(_VERSION)


def test_a_failing_compiler_is_quoted(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", _compiler(tmp_path, "echo 'no such header' >&2; exit 3"))
    with pytest.raises(build.BuildError, match=r"exit status 3(.|\n)*no such header"):
        build.build(_VERSION)
    assert not build.library_path(_VERSION).exists()


def test_a_broken_library_is_explained(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", _compiler(tmp_path, _WRITE_OUTPUT))
    with pytest.raises(build.BuildError, match=r"does not load.*Delete it"):
        build.load(_VERSION)
