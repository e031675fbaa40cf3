"""The package controlnet-aux is used without what importing it does to a process."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex.nodes.preprocess import controlnet_aux
from comfyui_ipex.nodes.preprocess.controlnet_aux import NetworkPackageError, network_class
from conftest import REPOSITORY

PROGRAM = """
import json, os, sys, types, warnings
package = types.ModuleType("comfyui_ipex")
package.__path__ = [{repository!r}]
sys.modules["comfyui_ipex"] = package

def seen():
    registry = vars(sys.modules["timm.models._registry"])
    tables = {{k: v for k, v in registry.items() if isinstance(v, (dict, set))}}
    return {{
        "environment": dict(os.environ),
        "filters": repr(warnings.filters),
        "path": list(sys.path),
        "networks": sorted((k, f.__module__) for k, f in tables["_model_entrypoints"].items()),
        "tables": sorted((k, len(v)) for k, v in tables.items() if not k.startswith("__")),
        "foreign": [k for k in ("mediapipe", "controlnet_aux") if k in sys.modules],
    }}

import timm
before = seen()
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    from comfyui_ipex.nodes.preprocess.controlnet_aux import network_class
    classes = [network_class(target).__name__ for target in {targets!r}]
print(json.dumps([before == seen(), before["foreign"], classes, [str(w.message) for w in warned]]))
"""

TARGETS = [
    "controlnet_aux.hed:ControlNetHED_Apache2",
    "controlnet_aux.open_pose.body:bodypose_model",
    "controlnet_aux.segment_anything:SamDetector",
]


def test_networks_come_without_the_packages_side_effects(tmp_path: Path) -> None:
    """Beside a mediapipe that cannot be imported, as the newest cannot be by the package."""
    (tmp_path / "mediapipe.py").write_text("raise RuntimeError('mediapipe was imported')\n")
    environment = {k: v for k, v in os.environ.items() if k != "KMP_DUPLICATE_LIB_OK"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(repository=str(REPOSITORY), targets=TARGETS)],
        env={**environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    unchanged, foreign, classes, warned = json.loads(done.stdout.splitlines()[-1])
    assert unchanged
    assert foreign == []
    assert classes == [target.partition(":")[2] for target in TARGETS]
    assert warned == []


def test_without_the_package_an_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    monkeypatch.delitem(sys.modules, controlnet_aux._ALIAS, raising=False)
    with pytest.raises(NetworkPackageError) as caught:
        network_class("controlnet_aux.canny:CannyDetector")
    text = str(caught.value)
    assert "controlnet-aux" in text
    assert "is not installed" in text
    assert f'"{sys.executable}" -m pip install -r "{REPOSITORY / "requirements.txt"}"' in text


def test_a_package_that_lacks_something_is_an_error_with_its_version() -> None:
    with pytest.raises(NetworkPackageError, match=r"0\.0\.10 lacks controlnet_aux\.hed:NoSuch"):
        network_class("controlnet_aux.hed:NoSuch")
    with pytest.raises(NetworkPackageError, match=r"part no_such_part .*cannot be imported"):
        network_class("controlnet_aux.no_such_part:Thing")


def test_the_requirements_are_the_projects_dependencies_and_no_torch() -> None:
    listed = [
        line
        for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    declared = project.partition("dependencies = [")[2].partition("]")[0]
    assert [part.strip().strip('"') for part in declared.split(",") if part.strip()] == listed
    assert not [line for line in listed if line.startswith(("torch", "intel"))]
