"""Benchmark: a short run of the suites that need torch alone, in a workflow."""

from typing import Any

from ..xpu_runtime import devices, host
from ..xpu_runtime.placement import choose
from .select_device import TakesDevice, device_widget

DTYPES = ("auto", "fp32", "fp16", "bf16")


class IpexBenchmark(TakesDevice):
    CATEGORY = "IPEX"
    FUNCTION = "measure"
    SEARCH_ALIASES = ["benchmark", "speed", "xpu", "intel arc", "gpu", "tflops", "bandwidth"]
    DESCRIPTION = (
        "Measures a device for about half a minute: matrix products, memory, convolutions and "
        "attention, with intervals and errors. Nothing else should run meanwhile. The command "
        "ipex-benchmarks measures far more."
    )
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("table",)
    OUTPUT_TOOLTIPS = ("The conditions and a Markdown table.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        dtype = {
            "default": "auto",
            "tooltip": "The number format. 'auto' is fp16 on a GPU and fp32 on the CPU.",
        }
        return {"required": {"device": device_widget(), "dtype": (list(DTYPES), dtype)}}

    @classmethod
    def IS_CHANGED(cls, **_: object) -> float:  # noqa: N802 (the host's name)
        """Never equal to itself, so that each run measures again."""
        return float("nan")

    def measure(self, device: str, dtype: str) -> dict[str, Any]:
        # Here, because loading the pack must not cost what only this node needs.
        from ..benchmarks import engine

        chosen = choose(device, "the benchmark", host.primary_device)
        cases = engine.quick_cases()
        progress = host.progress_bar(len(cases))

        def step(done: int) -> None:
            host.check_interrupted()
            progress.update_absolute(done, len(cases))

        host.empty_caches()
        asked = () if dtype == devices.AUTO else (dtype,)
        text = engine.measure_quick_cases(cases, chosen.location.device, asked, step)
        if chosen.warning:
            text = f"{chosen.warning}\n{text}"
        return {"ui": {"text": [text]}, "result": (text,)}
