"""IPEX Optimize: models that run faster where that was measured, and stay as they are elsewhere."""

from typing import TYPE_CHECKING, Any

from ..xpu_runtime import devices, optimizing
from ..xpu_runtime.optimizing import BACKENDS, COMPILES, DTYPES, MODES, SWITCH, OptimizeSettings

if TYPE_CHECKING:
    from ..xpu_runtime.host.types import Latent, ModelPatcher

_BACKEND_TOOLTIP = (
    "'native' is torch's own. 'ipex' asks for Intel's archived extension too, which does nothing "
    "for diffusion models; the report says why."
)


def choice(options: list[str], tooltip: str) -> tuple[list[str], dict[str, Any]]:
    """A widget whose first option is its default."""
    return (options, {"default": options[0], "tooltip": tooltip})


def switch(tooltip: str) -> tuple[str, dict[str, Any]]:
    """A widget that is on by default."""
    return ("BOOLEAN", {"default": True, "tooltip": tooltip})


class Optimizes:
    CATEGORY = "IPEX"
    FUNCTION = "optimize"
    SEARCH_ALIASES = ["ipex", "optimize", "torch compile", "channels last", "cuda graph", "speed"]


class IpexOptimize(Optimizes):
    DESCRIPTION = (
        "Makes a diffusion model faster where that can be measured, with the same pictures, and "
        "tells what was done, what was skipped and why. LoRAs may come before or after. Applies "
        "while the model is loaded as a whole; the input model is not changed."
    )
    RETURN_TYPES = ("MODEL", "STRING")
    RETURN_NAMES = ("model", "report")
    OUTPUT_TOOLTIPS = (
        "The same model, with optimised steps.",
        "What was done, what was skipped and why, with the figures.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The diffusion model, from any loader."}),
                "backend": choice(BACKENDS, _BACKEND_TOOLTIP),
                "dtype": choice(
                    DTYPES,
                    "What the model computes in. 'auto' and 'keep' leave that to ComfyUI, which "
                    "knows the device; the others cast the weights in each step.",
                ),
                "channels_last": choice(
                    SWITCH,
                    "The memory layout that convolutions of most GPUs prefer. 'auto' uses it for "
                    "the sizes of picture at which it was measured to be faster.",
                ),
                "compile": choice(
                    COMPILES,
                    "torch.compile. 'blocks' compiles transformers and norms once for all sizes, "
                    "'all blocks' convolutions too, 'full' all at once for each size. 'auto' tries "
                    "the first two on GPUs: a minute or two, once.",
                ),
                "mode": choice(
                    MODES,
                    "'reduce-overhead' records a step once a size and has the device repeat it. "
                    "'auto' does that on NVIDIA's cards. 'default' does not.",
                ),
                "fold": switch(
                    "Folds BatchNorm into the convolution before it. Diffusion models have none."
                ),
                "verify": switch(
                    "Runs a step with and without, compares results and time, and keeps what is "
                    "faster and correct. Off: what is switched on is used unmeasured, and 'auto' "
                    "means off."
                ),
            },
            "optional": {
                "latent_image": (
                    "LATENT",
                    {
                        "tooltip": "A latent of the size to measure at now; else 512x512. "
                        "Further sizes are measured at their first step."
                    },
                )
            },
        }

    def optimize(
        self,
        model: "ModelPatcher",
        backend: str,
        dtype: str,
        channels_last: str,
        compile: str,
        mode: str,
        fold: bool,
        verify: bool,
        latent_image: "Latent | None" = None,
    ) -> dict[str, Any]:
        wishes = OptimizeSettings(backend, dtype, channels_last, compile, mode, fold, verify)
        done = optimizing.optimize(model, wishes, example_size(model, latent_image))
        return {"ui": {"text": [done.text]}, "result": (done.model, done.text)}


def example_size(model: "ModelPatcher", latent: "Latent | None") -> tuple[int, int, int]:
    """Batch, height and width of the step to measure: prompt and negative prompt go at once."""
    if latent is not None:
        batch, height, width = (latent["samples"].shape[at] for at in (0, -2, -1))
        return 2 * batch, height, width
    side = 32 if model.load_device.type == devices.CPU else 64
    return 2, side, side
