"""IPEX Optimize for diffusion models."""

import uuid
from dataclasses import dataclass, replace

import torch

from .. import host
from ..host.types import ModelPatcher
from ..log import LOGGER
from .plan import plan
from .settings import AUTO, KEEP, OptimizeSettings, Skipped, StepPlan
from .state import state_of
from .steps import TROUBLE, Optimizer
from .surroundings import facts_of
from .trial import Measurement

KEY = "comfyui-ipex.optimize"

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}

LATER = (
    "Each size of picture is measured at its first step; XPU Report and the log tell the result."
)

UNTRIED = (
    "Where that fails, or the model is loaded partially, steps run as found, and the log says why."
)


@dataclass(frozen=True)
class Optimized:
    """A model that was set up to be optimised, and what can be said about that now."""

    model: ModelPatcher
    plan: StepPlan
    outcomes: tuple[Measurement, ...]
    """What was measured for the example."""
    device: torch.device
    verified: bool
    """Whether steps are measured."""

    @property
    def text(self) -> str:
        """For the node: what was done, what was skipped and why, with the figures."""
        lines = [f"On {self.device}:"]
        for outcome in self.outcomes:
            lines += outcome.lines
        lines += self.plan.notes
        tried = ", ".join(one.name for one in self.plan.variants)
        if not self.plan.variants:
            lines.append("Nothing applies: the model stays as it was found.")
        elif self.verified:
            lines.append(LATER if self.outcomes else f"To be tried: {tried}. {LATER}")
        else:
            way = self.plan.variants[0].name
            lines.append(f"Not measured, as asked: each step will run with {way}. {UNTRIED}")
        return "\n".join([*lines, *(f"Skipped {one.text}." for one in self.plan.skipped)])


def optimize(
    model: ModelPatcher, wishes: OptimizeSettings, size: tuple[int, int, int] | None = None
) -> Optimized:
    """A clone of the ModelPatcher `model` whose steps are run by what proves faster and correct.

    `size` is that of an example, (batch, height, width) in latent pixels, which is then measured
    now; None leaves that to the first real step. Raises what an interrupt raises.
    """
    clone = host.plain_clone(model)
    device = clone.load_device
    planned = plan(wishes, facts_of(clone.model.diffusion_model, device))
    if host.is_dynamic(clone):
        why = "this ComfyUI moves the weights while the model runs, and cannot be asked not to"
        planned = StepPlan((), (Skipped("everything", why),))
    planned = _with_dtype(clone, wishes, planned)
    if planned.variants:
        Optimizer(wishes, planned).attach(clone, KEY)
    outcomes: tuple[Measurement, ...] = ()
    if wishes.verify and planned.variants and size is not None:
        outcomes, planned = _example(clone, wishes, size, planned)
    return Optimized(clone, planned, outcomes, device, wishes.verify)


def _with_dtype(clone: ModelPatcher, wishes: OptimizeSettings, planned: StepPlan) -> StepPlan:
    """Set what the clone computes in, or say why not."""
    if wishes.dtype in (AUTO, KEEP):
        now = str(_compute_dtype(clone)).removeprefix("torch.")
        return _noted(planned, f"Computes in {now}, as ComfyUI chose.")
    dtype = _DTYPES[wishes.dtype]
    if dtype == _compute_dtype(clone):
        return _noted(planned, f"Computes in {wishes.dtype}, as before.")
    fp16, bf16 = host.supports_half(clone.load_device)
    if not (fp16 if dtype == torch.float16 else bf16):
        why = f"ComfyUI does not use {wishes.dtype} on {clone.load_device}"
        return replace(planned, skipped=(*planned.skipped, Skipped("dtype", why)))
    identity = clone.patches_uuid
    clone.set_model_compute_dtype(dtype)
    # Derived, not random, so that running the node again does not cause a reload.
    clone.patches_uuid = uuid.uuid5(identity, wishes.dtype)
    weights = str(clone.model_dtype()).removeprefix("torch.")
    text = f"Computes in {wishes.dtype} as asked; the weights stay in {weights} and are cast"
    return _noted(planned, f"{text} in each step. This is not measured.")


def _compute_dtype(clone: ModelPatcher) -> torch.dtype:
    cast: torch.dtype | None = clone.get_model_object("manual_cast_dtype")
    return clone.model_dtype() if cast is None else cast


def _noted(planned: StepPlan, note: str) -> StepPlan:
    return replace(planned, notes=(*planned.notes, note))


def _example(
    clone: ModelPatcher, wishes: OptimizeSettings, size: tuple[int, int, int], planned: StepPlan
) -> tuple[tuple[Measurement, ...], StepPlan]:
    """What an example step measured, and the plan with what is to be said about it."""
    batch, height, width = size
    try:
        with torch.inference_mode():
            host.run_example_step(clone, height, width, batch)
    except host.NoExampleError as error:
        return (), _noted(planned, f"Not measured yet: {error}.")
    except TROUBLE as error:
        LOGGER.warning("IPEX Optimize: the example step failed: %s", error)
        return (), _noted(planned, f"Not measured yet: the example step failed: {error}")
    state = state_of(clone.model)
    if state.unfit:
        return (), _noted(planned, f"Not applied now: {state.unfit}.")
    found = [
        outcome
        for key, outcome in state.outcomes.items()
        if key[0] == wishes and outcome.size[0] == batch and outcome.size[-2:] == (height, width)
    ]
    return tuple(found[-1:]), planned
