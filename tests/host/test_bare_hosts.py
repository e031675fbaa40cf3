"""docs/bare-hosts.md: every cell of its table is what the host does, on emulated cards."""

import re
from pathlib import Path

import hosts
import pytest
from conftest import REPOSITORY
from defect_table import CHECKS, observed, repaired, table
from servers import TWO_CARDS, Configuration, ServerPool, workflow
from starts import base_folder, start

pytestmark = pytest.mark.host


@pytest.mark.parametrize(
    ("cards", "check"), [(cards, check) for cards, checks in CHECKS.items() for check in checks]
)
def test_a_defect_shows_where_the_table_says(
    host_version: str, cards: tuple[str, ...], check: str
) -> None:
    version = hosts.installed(host_version).version
    seen = observed(host_version, cards, "bare")[check]
    assert isinstance(seen, bool), seen
    assert seen == table()[check][version]


@pytest.mark.parametrize(
    ("cards", "check"), [(cards, check) for cards, checks in CHECKS.items() for check in checks]
)
def test_this_extension_repairs_what_the_table_says(
    host_version: str, cards: tuple[str, ...], check: str
) -> None:
    version = hosts.installed(host_version).version
    seen = observed(host_version, cards, str(REPOSITORY))[check]
    assert isinstance(seen, bool), seen
    assert seen == (table()[check][version] and not repaired()[check])


@pytest.mark.parametrize("extension", [False, True], ids=["bare", "extended"])
def test_start_dies_without_a_gpu(host_version: str, tmp_path: Path, extension: bool) -> None:
    check = "start_dies_without_a_gpu"
    done = start(host_version, base_folder(tmp_path, extension))
    died = done.status != 0 and (
        re.search(r"NVIDIA driver|not compiled with CUDA", done.words) is not None
    )
    version = hosts.installed(host_version).version
    shows = table()[check][version] and not (extension and repaired()[check])
    assert died == shows, done.words[-2000:]
    assert died or done.status == 0, done.words[-2000:]
    assert extension == ("so ComfyUI runs on the CPU. Why: " in done.words)


@pytest.mark.parametrize("extension", [False, True], ids=["bare", "extended"])
def test_mismatched_ipex_ends_the_process(
    host_version: str, tmp_path: Path, extension: bool
) -> None:
    """IPEX 2.7 to 2.10 end the process when torch is not exactly theirs; this stand-in does."""
    check = "mismatched_ipex_ends_the_process"
    package = tmp_path / "site" / "intel_extension_for_pytorch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os\nos._exit(127)\n")
    base = base_folder(tmp_path / "base", extension)
    done = start(host_version, base, ("--cpu",), python_path=tmp_path / "site")
    assert done.status in (0, 127), done.words[-2000:]
    version = hosts.installed(host_version).version
    shows = table()[check][version] and not (extension and repaired()[check])
    assert (done.status == 127) == shows
    assert extension == ("pip uninstall intel_extension_for_pytorch" in done.words)


def second_card(version: str, extension: bool) -> Configuration:
    """A server that is told to run on the second of two cards."""
    return Configuration(
        version, ("--default-device", "1"), extension=extension, emulator=TWO_CARDS
    )


@pytest.mark.parametrize("extension", [False, True], ids=["bare", "extended"])
def test_system_stats_and_default_device(
    pool: ServerPool, host_version: str, extension: bool
) -> None:
    server = pool.get(second_card(host_version, extension))
    listed = [device["name"] for device in server.client.get_json("/system_stats")["devices"]]
    version = server.host.version
    seen = {
        "system_stats_hide_the_second_card": len(listed) == 1,
        "default_device_is_ignored": "xpu:1" not in listed[0],
    }
    for check, shows in seen.items():
        assert shows == (table()[check][version] and not (extension and repaired()[check])), listed


def test_with_this_extension_the_default_device_runs_the_workflow(
    pool: ServerPool, host_version: str
) -> None:
    server = pool.get(second_card(host_version, extension=True))
    assert server.run_fresh(workflow("txt2img")).images
    convolutions = [
        card["op_calls"].get("aten::convolution_overrideable", 0)
        for card in server.emulated_cards()
    ]
    assert convolutions[0] == 0
    assert convolutions[1] > 0


def test_the_table_holds_every_check_and_every_version() -> None:
    checks = {check for names in CHECKS.values() for check in names}
    checks |= {
        "start_dies_without_a_gpu",
        "mismatched_ipex_ends_the_process",
        "default_device_is_ignored",
        "system_stats_hide_the_second_card",
    }
    assert set(table()) == checks
    assert all(tuple(row) == hosts.VERSIONS for row in table().values())
