"""XPU Report: what a bug report needs, in a workflow."""

from typing import Any


class IpexXpuReport:
    CATEGORY = "IPEX"
    FUNCTION = "report"
    SEARCH_ALIASES = ["xpu", "intel arc", "gpu info", "diagnostics", "bug report", "vram"]
    DESCRIPTION = (
        "Shows what this ComfyUI runs on: versions, drivers, devices and their memory, and what "
        "comfyui-ipex has changed. Copy the text into a bug report; it names no files or people."
    )
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("report",)
    OUTPUT_TOOLTIPS = ("The report, as plain text.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls) -> float:  # noqa: N802 (the host's name)
        """Never equal to itself, so that each run reads everything again."""
        return float("nan")

    def report(self) -> dict[str, Any]:
        from ..xpu_runtime import report, runtime, server_hooks

        text = report.as_text(server_hooks.collect_with_workers(runtime.begin()))
        return {"ui": {"text": [text]}, "result": (text,)}
