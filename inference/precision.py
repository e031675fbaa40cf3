"""Which dtype a network computes in: half precision where it was seen to be right."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..xpu_runtime import devices
from ..xpu_runtime.errors import is_about_the_device
from ..xpu_runtime.log import LOGGER
from .facts import Memo

AUTO = "auto"

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

CHOICES = [AUTO, *DTYPES]

MOST_ERROR = 2 / 255
"""Half precision must stay within this of fp32, in pictures of 0 to 1."""

CHECK_SIZE = (56, 72)
"""Height and width. Not 64: networks keep attention masks for that size, and make others."""

CHECKS: "Memo[tuple[torch.dtype, tuple[Check, ...]]]" = Memo(1024)
"""By what names the weights and what is computed with them, and the device."""


@dataclass(frozen=True)
class Support:
    fp16: bool
    bf16: bool

    def __and__(self, other: "Support") -> "Support":
        return Support(self.fp16 and other.fp16, self.bf16 and other.bf16)

    def dtypes(self) -> list[torch.dtype]:
        """The half precisions, the more precise first."""
        halves = ((self.fp16, torch.float16), (self.bf16, torch.bfloat16))
        return [dtype for has, dtype in halves if has]


@dataclass(frozen=True)
class Check:
    """One dtype, measured against fp32."""

    dtype: torch.dtype
    error: float
    """The largest difference on the test picture; infinite if there is no finite result."""
    reason: str = ""
    """Why there is none."""

    @property
    def passed(self) -> bool:
        return self.error <= MOST_ERROR

    @property
    def text(self) -> str:
        verdict = "used" if self.passed else "refused"
        figure = self.reason or f"off by {self.error * 255:.2f}/255 from fp32"
        return f"{name_of(self.dtype)} {verdict}: {figure}"


def name_of(dtype: torch.dtype) -> str:
    """ "fp32", "bf16" or "fp16"."""
    return next(name for name, value in DTYPES.items() if value == dtype)


def cpu_support() -> Support:
    """The half precisions that this CPU has instructions for."""

    def says(name: str) -> bool:
        # Private names that not every torch has: one that cannot tell counts as no.
        asked = getattr(torch.cpu, name, None)
        return bool(asked()) if callable(asked) else False

    return Support(fp16=says("_is_amx_fp16_supported"), bf16=says("_is_avx512_bf16_supported"))


def test_picture(channels: int, size: tuple[int, int] = CHECK_SIZE) -> Tensor:
    """fp32 [1, channels, *size] with smooth parts, edges and noise; always the same."""
    height, width = size
    smooth = (torch.linspace(0, 1, height)[:, None] + torch.linspace(0, 1, width)) / 2
    edges = ((torch.arange(height)[:, None] // 8 + torch.arange(width) // 8) % 2).float()
    noise = torch.rand(channels, height, width, generator=torch.Generator().manual_seed(8))
    return ((smooth + edges + noise) / 3)[None]


def checked(
    run: Callable[[torch.dtype], Tensor], candidates: list[torch.dtype]
) -> tuple[torch.dtype, tuple[Check, ...]]:
    """The first of `candidates` that agrees with fp32, else fp32; and what was measured.

    `run(dtype)` is the network's result for the test picture. A dtype that an operator, or a
    network's own code, cannot take is refused. Raises `torch.OutOfMemoryError` and what a lost
    device raises.
    """
    if not candidates:
        return torch.float32, ()
    reference = run(torch.float32).float()
    checks = []
    for dtype in candidates:
        checks.append(_check(run, dtype, reference))
        if checks[-1].passed:
            return dtype, tuple(checks)
    return torch.float32, tuple(checks)


def settled(
    request: str,
    support: Support,
    network: str,
    device: torch.device,
    run: Callable[[torch.dtype], Tensor],
    name: str,
) -> torch.dtype:
    """The dtype that the network `name` with these weights computes in on `device`.

    `request` is one of `CHOICES`. What `auto` means is measured once for the same weights and
    device, as `checked` does, and logged. On the CPU only a request makes it half: its
    instructions gain less than they lose.
    """
    if request != AUTO:
        wanted = DTYPES[request]
        if wanted in (torch.float32, *support.dtypes()):
            return wanted
        LOGGER.warning("%s cannot compute in %s on %s; it computes in fp32.", name, request, device)
        return torch.float32

    def check() -> tuple[torch.dtype, tuple[Check, ...]]:
        found = checked(run, [] if device.type == devices.CPU else support.dtypes())
        for one in found[1]:
            LOGGER.info("%s on %s: %s", name, device, one.text)
        return found

    return CHECKS.find((network, str(device)), check)[0]


def measured(network: str, device: torch.device) -> tuple[Check, ...]:
    """What was measured for this network on `device`, if it was."""
    found = CHECKS.get((network, str(device)))
    return () if found is None else found[1]


def _check(run: Callable[[torch.dtype], Tensor], dtype: torch.dtype, reference: Tensor) -> Check:
    try:
        result = run(dtype).float()
    except RuntimeError as error:
        if is_about_the_device(error):
            raise
        # fp32 has just worked: what fails now is the dtype.
        return Check(dtype, float("inf"), str(error).splitlines()[0])
    if not bool(result.isfinite().all()):
        return Check(dtype, float("inf"), "the result is not finite")
    return Check(dtype, float((result - reference).abs().max()))
