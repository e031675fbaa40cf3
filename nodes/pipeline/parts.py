"""A batch in parts: what each part's sampling must be given so that it makes the same pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...xpu_runtime import host

if TYPE_CHECKING:
    from ...xpu_runtime.host.types import Conditioning, ControlBase, Latent

_ROWS = ("pooled_output", "mask")
"""What conditioning has for each picture besides its text; fewer rows are used in turns."""

_WHOLE = ("concat_latent_image", "concat_mask")
"""The same, but the host stretches these over a batch, unless there is one row a picture."""


@dataclass(frozen=True)
class BatchPart:
    """Neighbouring pictures of a batch of `whole`."""

    first: int
    count: int
    whole: int

    def take_rows(self, value: Any) -> Any:
        """This part's share of a tensor that has a row a picture, or fewer rows in turns.

        A single row, and whatever is no tensor, stays what it is.
        """
        if not isinstance(value, Tensor) or value.dim() == 0 or len(value) < 2:
            return value
        wanted = torch.arange(self.first, self.first + self.count) % len(value)
        return value[wanted.to(value.device)]


def split_batch(whole: int, at_once: int) -> list[BatchPart]:
    """A batch of `whole` pictures in parts of at most `at_once`."""
    return [BatchPart(at, min(at_once, whole - at), whole) for at in range(0, whole, at_once)]


def cut_latent(latent: "Latent", part: BatchPart) -> "Latent":
    """The part of a LATENT, with the noise that the whole batch would have there."""
    if part.count == part.whole:
        return latent
    return host.part_of_latent(latent, part.first, part.count)


class ConditioningPair:
    """A positive and a negative CONDITIONING, whose rows may belong to pictures of the batch."""

    def __init__(self, positive: "Conditioning", negative: "Conditioning") -> None:
        self._both = (positive, negative)

    def cut(self, part: BatchPart) -> "tuple[Conditioning, Conditioning]":
        """What KSampler is given for `part`. What is given whole is not changed."""
        if part.count == part.whole:
            return self._both
        # Both share a ControlNet, and the host computes them at once only while they do.
        controls: dict[int, ControlBase] = {}
        positive, negative = (
            [_cut_row(one, part, controls) for one in rows] for rows in self._both
        )
        return positive, negative


def _cut_row(one: Sequence[Any], part: BatchPart, controls: "dict[int, ControlBase]") -> list[Any]:
    text, rest = one
    own = dict(rest)
    for name in _ROWS:
        if name in own:
            own[name] = part.take_rows(own[name])
    for name in _WHOLE:
        if name in own and len(own[name]) == part.whole:
            own[name] = part.take_rows(own[name])
    if own.get("control") is not None:
        own["control"] = _cut_control(own["control"], part, controls)
    return [part.take_rows(text), own]


def _cut_control(
    control: "ControlBase", part: BatchPart, done: "dict[int, ControlBase]"
) -> "ControlBase":
    """A ControlNet with the part's hints, and so those before it; the same if all have one."""
    if id(control) in done:
        return done[id(control)]
    before = getattr(control, "previous_controlnet", None)
    own_before = before if before is None else _cut_control(before, part, done)
    hint = getattr(control, "cond_hint_original", None)
    own_hint = part.take_rows(hint)
    found = control
    if own_before is not before or own_hint is not hint:
        found = control.copy()
        found.cond_hint_original = own_hint
        found.extra_concat_orig = [part.take_rows(extra) for extra in control.extra_concat_orig]
        found.set_previous_controlnet(own_before)
    done[id(control)] = found
    return found
