"""What Intel's driver means by its errors: out of memory, device lost, or something else.

torch's own allocator raises `torch.OutOfMemoryError`, which ComfyUI catches and answers with
tiles or a partial load. What the driver refuses later, inside a kernel, arrives as a plain
`RuntimeError` with a text of Level Zero, which ComfyUI takes for a bug in the workflow.
"""

import re
from contextlib import ContextDecorator
from types import TracebackType

OUT_OF_MEMORY_TEXTS: tuple[tuple[str, str], ...] = (
    # "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", and
    # "Native API returns: 39 (UR_RESULT_...)" from older torch
    (r"UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY", "https://github.com/pytorch/pytorch/issues/177714"),
    (r"UR_RESULT_ERROR_OUT_OF_RESOURCES", "https://github.com/intel/torch-xpu-ops/issues/1324"),
    # The third memory code of the same enumeration, ur_result_t: pinned and shared memory.
    (
        r"UR_RESULT_ERROR_OUT_OF_HOST_MEMORY",
        "https://oneapi-src.github.io/unified-runtime/core/api.html",
    ),
    # IPEX 2.1 raised these two as plain RuntimeErrors.
    (
        r"can NOT allocate memory block with size larger than",
        "https://github.com/intel/intel-extension-for-pytorch/issues/492",
    ),
    (
        r"\bXPU out of memory\b",
        "https://github.com/intel/intel-extension-for-pytorch/issues/629",
    ),
    # IPEX's known issues trace -997 on Arc to exhausted memory. The number alone could be
    # any number, so the words before it count too.
    (
        r"(?:returns|failed with error): -997\b",
        "https://intel.github.io/intel-extension-for-pytorch/xpu/2.8.10+xpu/"
        "tutorials/known_issues.html",
    ),
)
"""(regular expression, where it was seen): texts of a RuntimeError that mean out of memory."""

DEVICE_LOST_TEXTS: tuple[tuple[str, str], ...] = (
    # "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)"
    (r"UR_RESULT_ERROR_DEVICE_LOST", "https://github.com/pytorch/pytorch/issues/190972"),
    # Level Zero's own name of it, where the driver is asked without Unified Runtime between.
    (
        r"ZE_RESULT_ERROR_DEVICE_LOST",
        "https://oneapi-src.github.io/level-zero-spec/level-zero/latest/core/api.html",
    ),
)
"""(regular expression, where it was seen): texts of a RuntimeError that mean a lost device."""

# Hosts also look for the words "out of memory" in a message, so these must not be in here.
DEVICE_LOST_MESSAGE = (
    "The Intel GPU stopped responding and its driver has reset it. Everything that was on the "
    "card is gone, and this process cannot use the card again. Restart ComfyUI. If it happens "
    "again, use a smaller resolution or batch, close other programs that use the card, and "
    "update the driver."
)


class DeviceLostError(RuntimeError):
    """The card was reset under this process; only a restart brings it back."""


def _compiled(table: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    return re.compile("|".join(pattern for pattern, _ in table))


# c10/core/impl/alloc_cpu.cpp: on Linux and macOS, and on Windows.
_OUT_OF_HOST_MEMORY = re.compile(r"DefaultCPUAllocator: (?:can't allocate|not enough) memory")

_OUT_OF_MEMORY = _compiled(OUT_OF_MEMORY_TEXTS)
_DEVICE_LOST = _compiled(DEVICE_LOST_TEXTS)


def out_of_memory_class() -> type[RuntimeError]:
    """The class that torch's allocators raise: `torch.OutOfMemoryError`.

    Before torch 2.5 that name is missing, and every back end raises `torch.cuda`'s.
    """
    import torch

    found = getattr(torch, "OutOfMemoryError", None)
    return torch.cuda.OutOfMemoryError if found is None else found


def is_device_lost(error: BaseException) -> bool:
    """True if `error` says that the card was reset: nothing on it can be used any more."""
    if isinstance(error, DeviceLostError):
        return True
    return isinstance(error, RuntimeError) and _DEVICE_LOST.search(str(error)) is not None


def is_out_of_memory(error: BaseException) -> bool:
    """True if `error` says that memory ran out, in torch's words or in Level Zero's.

    A lost device is never out of memory, whatever else its text says: a retry with less
    memory would meet the same dead card.
    """
    if not isinstance(error, RuntimeError) or is_device_lost(error):
        return False
    return isinstance(error, out_of_memory_class()) or (
        _OUT_OF_MEMORY.search(str(error)) is not None
    )


def is_out_of_any_memory(error: BaseException) -> bool:
    """True where `is_out_of_memory` is, and where the computer's own memory ran out.

    Our nodes ask it of calls that may run on the CPU. Hosts are only told about the first.
    """
    if is_out_of_memory(error):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_HOST_MEMORY.search(str(error)) is not None


def is_about_the_device(error: BaseException) -> bool:
    """True if memory ran out or the card was reset: the call itself may be right."""
    return is_out_of_any_memory(error) or is_device_lost(error)


def translated(error: RuntimeError) -> RuntimeError:
    """What the host should see in place of `error`; `error` itself where it is clear already."""
    if isinstance(error, DeviceLostError):
        return error
    if is_device_lost(error):
        return DeviceLostError(DEVICE_LOST_MESSAGE)
    out_of_memory = out_of_memory_class()
    if isinstance(error, out_of_memory) or not is_out_of_memory(error):
        return error
    return out_of_memory(f"XPU out of memory. The driver said: {error}")


class host_errors(ContextDecorator):  # noqa: N801  (used like a function)
    """Decorator and context: the driver's texts become errors that the host understands.

    Out of memory is raised as `torch.OutOfMemoryError`, so that the host's own fallbacks
    (tiled VAE, partial load) run; a lost device as `DeviceLostError`, which they leave alone.
    Both carry the original as `__cause__`. Every other exception passes unchanged. Success
    costs the wrapped function one more call, and nothing is looked at.
    """

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise the clearer error, if there is one; else let `error` go on."""
        if isinstance(error, RuntimeError):
            clearer = translated(error)
            if clearer is not error:
                raise clearer from error
