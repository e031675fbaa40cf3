"""IPEX Optimize for upscale models and preprocessors."""

from typing import TYPE_CHECKING, Any

from ..xpu_runtime.optimizing import BACKENDS, COMPILES, SWITCH, OptimizeSettings
from .optimize import Optimizes, choice, switch

if TYPE_CHECKING:
    from ..xpu_runtime.host.types import Descriptor
    from .preprocess.preprocessor import Preprocessor

_BACKEND_TOOLTIP = (
    "'native' is torch's own. 'auto' and 'ipex' also try Intel's archived extension where it is "
    "installed and fits torch: on the CPU, in fp32."
)

_LAYOUT_TOOLTIP = (
    "The memory layout that convolutions often prefer. 'auto' uses it if it was measured to be "
    "faster at all sizes of test pictures."
)

_VERIFY_TOOLTIP = (
    "Runs test pictures of several sizes with and without, compares results and time, and keeps "
    "what is faster and correct. Off: what is switched on is used unmeasured, and 'auto' means off."
)

_COMPILE_TOOLTIP = (
    "torch.compile of the whole network, once for all sizes. 'auto' tries it on GPUs, every "
    "other choice but 'off' everywhere."
)

_REPORT = "What was done, what was skipped and why, with the figures."


class _OptimizesNetwork(Optimizes):
    """What both nodes share: torch's own networks, whose weights nobody patches."""

    @classmethod
    def shared(cls) -> dict[str, Any]:
        return {
            "backend": choice(BACKENDS, _BACKEND_TOOLTIP),
            "channels_last": choice(SWITCH, _LAYOUT_TOOLTIP),
            "fold": switch("Folds each BatchNorm that follows a convolution alone into it."),
            "verify": switch(_VERIFY_TOOLTIP),
            "compile": choice(COMPILES, _COMPILE_TOOLTIP),
        }


class IpexOptimizeUpscaler(_OptimizesNetwork):
    DESCRIPTION = (
        "Makes an upscale model of any loader faster where that can be measured on test pictures, "
        "and tells what was done, what was skipped and why. The input model is not changed: the "
        "optimised one has weights of its own."
    )
    RETURN_TYPES = ("UPSCALE_MODEL", "STRING")
    RETURN_NAMES = ("upscale_model", "report")
    OUTPUT_TOOLTIPS = ("The same model, optimised.", _REPORT)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        model = ("UPSCALE_MODEL", {"tooltip": "The upscale model to optimise."})
        return {"required": {"upscale_model": model, **cls.shared()}}

    def optimize(self, upscale_model: "Descriptor", **wishes: Any) -> dict[str, Any]:
        """A descriptor of the same model with an optimised network, and the report."""
        from .optimizing import optimize_upscaler

        result, text = optimize_upscaler(upscale_model, OptimizeSettings(**wishes))
        return {"ui": {"text": [text]}, "result": (result, text)}


class IpexOptimizePreprocessor(_OptimizesNetwork):
    DESCRIPTION = (
        "Makes the network of a ControlNet preprocessor faster where test pictures show that it "
        "is, and tells what was done, what was skipped and why. The input preprocessor is not "
        "changed: the optimised one has weights of its own."
    )
    RETURN_TYPES = ("PREPROCESSOR", "STRING")
    RETURN_NAMES = ("preprocessor", "report")
    OUTPUT_TOOLTIPS = ("The same preprocessor, optimised.", _REPORT)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        given = ("PREPROCESSOR", {"tooltip": "From Load Preprocessor (IPEX)."})
        return {"required": {"preprocessor": given, **cls.shared()}}

    def optimize(self, preprocessor: "Preprocessor", **wishes: Any) -> dict[str, Any]:
        """The same preprocessor with an optimised network of its own, and the report."""
        from .optimizing import optimize_preprocessor

        result, text = optimize_preprocessor(preprocessor, OptimizeSettings(**wishes))
        return {"ui": {"text": [text]}, "result": (result, text)}
