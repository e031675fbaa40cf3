"""The report holds what is listed, nothing else; secrets that are planted do not come through."""

import json
from pathlib import Path
from typing import Any

import pytest
import report_contents
from comfyui_ipex.xpu_runtime import host, report
from comfyui_ipex.xpu_runtime.devices import CPU, Device
from comfyui_ipex.xpu_runtime.priority import Primary
from comfyui_ipex.xpu_runtime.report import collect, without_paths
from comfyui_ipex.xpu_runtime.runtime import Runtime
from comfyui_ipex.xpu_runtime.seams.memory import MemoryReader

SECRET = "s3cr3t-ann-4711"

PLANTED = {
    "HF_TOKEN": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "NEO4J_PASSWORD": SECRET,
    "NEON_API_KEY": SECRET,
    "UR_API_TOKEN": SECRET,
    "ZE_AUTH": SECRET,
    "PYTORCH_PASSWORD": SECRET,
    "COMFYUI_IPEX_SECRET": SECRET,
    "ONEAPI_ROOT": f"/home/{SECRET}/oneapi",
    "SYCL_CACHE_DIR": f"~{SECRET}",
    "IPEX_NOTE": f"{SECRET}\nsecond line",
    "IPEX_LONG": SECRET * 20,
    "SYCL_CONFIG_FILE_NAME": f"C:\\Users\\{SECRET}\\sycl.conf",
    "USER": SECRET,
    "COMFYUI_DIR": f"/srv/{SECRET}/ComfyUI",
    "COMFYUI_IPEX_HOME": f"/home/{SECRET}",
}

HARMLESS = {
    "ZE_AFFINITY_MASK": "0,1",
    "ONEAPI_DEVICE_SELECTOR": "level_zero:*",
    "COMFYUI_IPEX_DEVICE": "xpu@8680a056-0800-0000-0300-000000000000",
    "NEOReadDebugKeys": "1",
    "SYCL_PI_LEVEL_ZERO_USE_IMMEDIATE_COMMANDLISTS": "1",
}

SPOILT = (
    f"cannot open /home/{SECRET}/models/x.bin",
    f"No such file: '/mnt/{SECRET} disk/x.bin'",
    f"C:\\Users\\{SECRET}\\x.bin is missing",
    f"https://ann:{SECRET}@hub.example/repo refused",
)
"""Texts of errors that a part of the report may end in."""


def found(monkeypatch: pytest.MonkeyPatch, why: str, environ: dict[str, str]) -> Any:
    """The report of a process in which every question to the host ends in an error."""

    def spoilt(*_: Any) -> Any:
        raise RuntimeError(why)

    for name in ("version", "arguments", "primary_device", "loaded_models", "changed_arguments"):
        monkeypatch.setattr(host, name, spoilt)
    monkeypatch.setattr(report.Path, "home", lambda: Path(f"/home/{SECRET}"))
    running = Runtime((Device(CPU, "CPU"),), Primary(CPU, None, None), MemoryReader(), None)
    return collect(running, environ)


@pytest.mark.parametrize("why", SPOILT)
def test_no_secret_that_was_planted_is_in_the_report(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    made = found(monkeypatch, why, {**PLANTED, **HARMLESS})
    for text in (report.as_text(made), report.as_json(made)):
        assert SECRET not in text
        assert "ann:" not in text
    assert made.environment.items() >= HARMLESS.items()


def test_the_report_holds_what_is_listed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(monkeypatch, SPOILT[0], {**PLANTED, **HARMLESS})
    document = json.loads(report.as_json(made))
    assert report_contents.unexpected(document) == []
    document["devices"][0]["serial"] = "x"
    document["environment"]["USER"] = f"/home/{SECRET}"
    assert len(report_contents.unexpected(document)) == 2


def test_addresses_lose_what_is_said_before_the_host() -> None:
    assert without_paths(SPOILT[3]) == "https://hub.example/repo refused"
