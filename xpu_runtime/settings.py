"""Every environment variable that this project reads. Standard library only."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    name: str
    values: str
    """What may stand in it, for the documentation."""
    default: str
    meaning: str


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "COMFYUI_IPEX_DEVICE",
        "auto, cpu, cuda[:n], xpu[:n], xpu@uuid",
        "auto",
        "The device to run on. A device that is named but absent is an error. XPU Report tells "
        "a card's uuid, which stays when cards are counted in another order.",
    ),
    Setting(
        "COMFYUI_IPEX_DISABLE",
        "names of changes, with commas",
        "",
        "Changes to ComfyUI that are left out; the log names them.",
    ),
    Setting(
        "COMFYUI_IPEX_REQUIRE",
        "names of changes, with commas",
        "",
        "Changes to ComfyUI without which it must not start.",
    ),
    Setting(
        "COMFYUI_IPEX_MAX_ALLOCATION",
        "MiB",
        "",
        "The most that one tensor may take on an Intel GPU; empty means 4096, or all of it on the "
        "Data Center Max series.",
    ),
    Setting(
        "COMFYUI_IPEX_DOWNLOAD",
        "on, off",
        "on",
        "off: no node of this extension fetches weights from Hugging Face; a missing file is an "
        "error that says where to get it.",
    ),
    Setting(
        "COMFYUI_IPEX_WORKERS",
        "[name=]kind:interpreter, with commas",
        "",
        "Other Pythons whose devices this ComfyUI is to use too, for example "
        "xpu:/opt/xpu/bin/python beside an NVIDIA card. The kind is xpu, cuda or cpu.",
    ),
    Setting(
        "COMFYUI_IPEX_HOST",
        "a ComfyUI version",
        "0.3.47",
        "The ComfyUI version that the launcher sets up.",
    ),
    Setting(
        "COMFYUI_DIR",
        "a folder",
        "",
        "Your own ComfyUI: the launcher uses it instead of setting one up.",
    ),
    Setting(
        "COMFYUI_IPEX_HOME",
        "a folder",
        "",
        "Where models, input and output of the launcher's own ComfyUI live; "
        "empty means ~/.local/share/comfyui-ipex.",
    ),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def read(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The value of the setting `name`, or its default when unset or empty.

    Raises `KeyError` for a name that is not in `SETTINGS`.
    """
    return environ.get(name, "").strip() or _BY_NAME[name].default


def names(name: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The value of a setting that lists names with commas. Raises `KeyError` as `read` does."""
    return [part.strip() for part in read(name, environ).split(",") if part.strip()]
