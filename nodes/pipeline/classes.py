"""Pipeline: a batch that is sampled here and finished in a worker at the same time."""

from typing import TYPE_CHECKING, Any

import torch

from ...xpu_runtime import host

if TYPE_CHECKING:
    from ...xpu_runtime.host.types import VAE, Conditioning, Descriptor, Latent, ModelPatcher
    from .flow import BatchFlow
    from .parts import BatchPart


class UnsuitableLatentError(ValueError):
    """A LATENT that is no batch of pictures or videos of one size."""


def _number(
    kind: str, default: float, least: float, most: float, tooltip: str, **rest: Any
) -> tuple[str, dict[str, Any]]:
    return (kind, {"default": default, "min": least, "max": most, "tooltip": tooltip, **rest})


def _widgets() -> dict[str, Any]:
    """KSampler's, under its names."""
    seed = "Seed of the noise. Every picture gets the noise that KSampler would give it."
    return {
        "seed": _number("INT", 0, 0, (1 << 64) - 1, seed, control_after_generate=True),
        "steps": _number("INT", 20, 1, 10000, "Steps of sampling."),
        "cfg": _number(
            "FLOAT", 8.0, 0.0, 100.0, "How closely the prompt is followed.", step=0.1, round=0.01
        ),
        "sampler_name": (host.sampler_names(), {"tooltip": "The sampler, as in KSampler."}),
        "scheduler": (host.scheduler_names(), {"tooltip": "The scheduler, as in KSampler."}),
        "denoise": _number(
            "FLOAT", 1.0, 0.0, 1.0, "How much is made anew; less keeps the latent.", step=0.01
        ),
        "at_once": _number(
            "INT",
            1,
            1,
            4096,
            "Pictures that are sampled together before they are handed on. 1 overlaps most. "
            "Models that take a batch for a video (AnimateDiff, SVD) need all its frames.",
        ),
    }


class IpexPipeline:
    CATEGORY = "IPEX"
    FUNCTION = "sample_and_finish"
    DESCRIPTION = (
        "Samples a batch of latents picture by picture. With the VAE or the upscale model on a "
        "worker (Select Device), each picture is decoded and enlarged there while the next one is "
        "sampled here. The results are those of KSampler, VAE Decode and Upscale Image (IPEX), in "
        "order. A run that is stopped goes on from its last picture when it is queued again."
    )
    RETURN_TYPES = ("IMAGE", "LATENT")
    OUTPUT_TOOLTIPS = ("The pictures, in the latents' order.", "The sampled latents.")
    SEARCH_ALIASES = ["pipeline", "overlap", "two gpus", "ksampler", "batch", "video frames"]

    def __init__(self) -> None:
        from .flow import Unfinished

        self._unfinished = Unfinished()

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The diffusion model."}),
                "positive": ("CONDITIONING", {"tooltip": "What the pictures should have."}),
                "negative": ("CONDITIONING", {"tooltip": "What they should not have."}),
                "latent_image": ("LATENT", {"tooltip": "The batch: empty, or encoded frames."}),
                "vae": ("VAE", {"tooltip": "Decodes: after Select Device (VAE), on a worker."}),
                **_widgets(),
            },
            "optional": {
                "upscale_model": (
                    "UPSCALE_MODEL",
                    {"tooltip": "Enlarges the pictures in its own scale, here or on a worker."},
                )
            },
        }

    def sample_and_finish(
        self,
        model: "ModelPatcher",
        positive: "Conditioning",
        negative: "Conditioning",
        latent_image: "Latent",
        vae: "VAE",
        at_once: int,
        upscale_model: "Descriptor | None" = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """fp32 [B, H, W, C] on the CPU, 0 to 1, and the LATENT. Raises what the steps raise."""
        from .flow import BatchFlow, plan_finishing
        from .parts import ConditioningPair, cut_latent, split_batch

        batch = _count(latent_image)
        conditioning = ConditioningPair(positive, negative)

        def sample(part: "BatchPart") -> torch.Tensor:
            own = cut_latent(latent_image, part)
            found = host.sampled(model, *conditioning.cut(part), own, settings)
            samples: torch.Tensor = found["samples"].to("cpu")
            return samples

        objects = [model, positive, negative, latent_image, vae]
        objects += [] if upscale_model is None else [upscale_model]
        done = self._unfinished.take_up(objects, (at_once, settings))
        finishing = plan_finishing(model, vae, upscale_model)
        flow = BatchFlow(split_batch(batch, at_once), sample, finishing, done)
        lines = _describe_start(flow)
        flow.finish()
        self._unfinished.forget()
        latent = {**_without_scale(latent_image), "samples": torch.cat(done.latents)}
        text = "\n".join([*_describe_end(flow), *lines])
        return {"ui": {"text": [text]}, "result": (done.pictures, latent)}


def _count(latent: "Latent") -> int:
    """How many pictures or videos a LATENT has. Raises `UnsuitableLatentError`."""
    samples = latent["samples"]
    if not isinstance(samples, torch.Tensor) or getattr(samples, "is_nested", False):
        raise UnsuitableLatentError(
            f"`latent_image` holds a {type(samples).__name__}, such as video with sound, which has "
            "no single batch. Use KSampler and VAE Decode."
        )
    if not len(samples):
        raise UnsuitableLatentError("`latent_image` is empty: a batch of no latents.")
    return len(samples)


def _without_scale(latent: "Latent") -> dict[str, Any]:
    """The rest of a LATENT after sampling, as KSampler hands it on."""
    return {name: value for name, value in latent.items() if not name.startswith("downscale_ratio")}


def _describe_start(flow: "BatchFlow") -> list[str]:
    """For the user: what is left of a run that was stopped."""
    if not flow.done.latents:
        return []
    sampled = flow.count_pictures(len(flow.done.latents))
    finished = flow.count_pictures(flow.done.count)
    return [
        f"Kept from the run before, which was stopped: {sampled} sampled, of them {finished} "
        "finished."
    ]


def _describe_end(flow: "BatchFlow") -> list[str]:
    """For the user: what was done where, and whether at the same time."""
    seconds = flow.seconds
    return [
        f"{flow.finishing.text}, {_describe_overlap(flow)}",
        f"{seconds.whole:.1f} s: sampling {seconds.sampling:.1f} s, "
        f"finishing without sampling {seconds.waiting:.1f} s.",
    ]


def _describe_overlap(flow: "BatchFlow") -> str:
    if flow.overlaps:
        return "while the next was sampled."
    if flow.finishing.overlaps:
        return "after sampling: there is one part only, so nothing is left to sample meanwhile."
    return (
        "after sampling: this process does one thing at a time. On a worker's device (Select "
        "Device; ./comfyui-ipex --worker) it would be done while the next picture is sampled."
    )
