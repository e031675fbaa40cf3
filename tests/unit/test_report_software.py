"""The report's versions, drivers and settings: what is told, and what is nobody's business."""

from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from comfyui_ipex.xpu_runtime import report_software


def test_variables_are_told_without_paths_and_strangers_are_not() -> None:
    assert report_software.environment(
        {
            "COMFYUI_IPEX_DEVICE": "xpu:1",
            "COMFYUI_DIR": "/home/ann/ComfyUI",
            "UR_L0_USE_IMMEDIATE_COMMANDLISTS": "0",
            "SYCL_CACHE_DIR": "/home/ann/.cache/sycl",
            "HF_TOKEN": "secret",
            "HOSTNAME": "anns-machine",
        }
    ) == {
        "COMFYUI_IPEX_DEVICE": "xpu:1",
        "COMFYUI_DIR": report_software.A_PATH,
        "UR_L0_USE_IMMEDIATE_COMMANDLISTS": "0",
        "SYCL_CACHE_DIR": report_software.A_PATH,
    }


class Feature(Enum):
    """As the host's own enumerations of features."""

    FAST = "fast_one"
    QUICK = "quick_one"


def test_arguments_are_told_when_they_matter_and_name_no_file_or_address() -> None:
    assert report_software.arguments(
        {
            "default_device": 1,
            "reserve_vram": 1.5,
            "fast": {Feature.QUICK, Feature.FAST},
            "oneapi_device_selector": "level_zero:0",
            "listen": "192.168.0.7",
            "port": 8200,
            "extra_model_paths_config": [["/home/ann/paths.yaml"]],
            "cache_ram": [],
            "database_url": "sqlite:////home/ann/db",
        }
    ) == {
        "default_device": "1",
        "reserve_vram": "1.5",
        "fast": "fast_one,quick_one",
        "oneapi_device_selector": "level_zero:0",
    }


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"xpu": "20250101", "cuda": None}, "XPU (20250101)"),
        ({"cuda": "13.0"}, "CUDA 13.0"),
        ({"cuda": None, "hip": None}, "the CPU alone"),
    ],
)
def test_what_torch_was_built_for(versions: dict[str, Any], words: str) -> None:
    assert report_software.built_for(SimpleNamespace(**versions)) == words


@pytest.mark.parametrize(
    ("ipex", "modules", "words"),
    [
        ("2.8.10+xpu", {}, "2.8.10+xpu, fits this torch, not imported"),
        (
            "2.7.10+xpu",
            {"intel_extension_for_pytorch": None},
            "2.7.10+xpu, made for torch 2.7, blocked",
        ),
        (
            "2.8.10+xpu",
            {"intel_extension_for_pytorch": SimpleNamespace()},
            "2.8.10+xpu, fits this torch, imported",
        ),
    ],
)
def test_ipex_is_judged_without_importing_it(
    ipex: str, modules: dict[str, Any], words: str
) -> None:
    assert report_software.ipex_state(ipex, "2.8.0+xpu", modules) == words


def test_render_nodes_name_their_driver_and_whether_they_may_be_used(tmp_path: Path) -> None:
    for name, driver in (("renderD128", "xe"), ("renderD129", "nvidia")):
        (tmp_path / "drivers" / driver).mkdir(parents=True)
        node = tmp_path / "sys/class/drm" / name / "device"
        node.mkdir(parents=True)
        (node / "driver").symlink_to(tmp_path / "drivers" / driver)
    nodes = report_software.render_nodes(tmp_path, lambda path: path.name != "renderD128")
    assert nodes == ("renderD128 xe, which this user may not use", "renderD129 nvidia")


def test_libraries_are_told_by_name_alone() -> None:
    maps = (
        "7f00-7f01 r-xp 00000000 08:01 1  /usr/lib/x86_64-linux-gnu/libze_loader.so.1.20.2\n"
        "7f01-7f02 r-xp 00000000 08:01 1  /usr/lib/x86_64-linux-gnu/libze_loader.so.1.20.2\n"
        "7f02-7f03 r-xp 00000000 08:01 2  /home/ann/lib/libsycl.so.8\n"
        "7f03-7f04 r-xp 00000000 08:01 3  /usr/lib/libc.so.6\n"
    )
    assert report_software.libraries(maps) == ("libsycl.so.8", "libze_loader.so.1.20.2")
