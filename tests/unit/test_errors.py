"""What the driver's texts mean, and what the host sees of them."""

from collections.abc import Callable

import pytest
import torch
from comfyui_ipex.xpu_runtime.errors import (
    DEVICE_LOST_MESSAGE,
    DeviceLostError,
    host_errors,
    is_device_lost,
    is_out_of_any_memory,
    is_out_of_memory,
)
from xpu_emulator import DeviceSpec, EmulatedXpu
from xpu_emulator.profiles import A770

MIB = 1 << 20

OUT_OF_MEMORY = [
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "level_zero backend failed with error: 38 (UR_RESULT_ERROR_OUT_OF_HOST_MEMORY)",
    "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "Current platform can NOT allocate memory block with size larger than 4GB! Tried to "
    "allocate 7.62 GiB (GPU  0; 15.11 GiB total capacity)",
    "XPU out of memory. Tried to allocate 1.71 GiB (GPU 0; 15.56 GiB total capacity)",
    "Native API failed. Native API returns: -997 (The plugin has emitted a backend error)",
]
LOST = [
    "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
    "Native API failed. Native API returns: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
    "ZE_RESULT_ERROR_DEVICE_LOST",
    "UR_RESULT_ERROR_DEVICE_LOST after UR_RESULT_ERROR_OUT_OF_RESOURCES",
]
NEITHER = [
    "mat1 and mat2 shapes cannot be multiplied (-997x2 and 3x4)",
    "Native API failed. Native API returns: -50 (PI_ERROR_INVALID_ARG_VALUE)",
    "level_zero backend failed with error: 2147483646 (UR_RESULT_ERROR_UNKNOWN)",
    "",
]


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_out_of_memory_texts_become_torchs_error(text: str) -> None:
    error = RuntimeError(text)
    assert is_out_of_memory(error) and not is_device_lost(error)
    with pytest.raises(torch.OutOfMemoryError, match="XPU out of memory") as raised, host_errors():
        raise error
    assert raised.value.__cause__ is error
    assert text in str(raised.value)
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize("words", ["can't allocate memory", "not enough memory"])
def test_the_computers_own_memory_is_another_matter_than_the_cards(words: str) -> None:
    text = f"[enforce fail] err == 0. DefaultCPUAllocator: {words}: you tried to allocate 9 bytes."
    error = RuntimeError(text)
    assert is_out_of_any_memory(error) and not is_out_of_memory(error)
    assert not is_out_of_any_memory(ValueError(text))
    assert all(is_out_of_any_memory(RuntimeError(one)) for one in OUT_OF_MEMORY)


@pytest.mark.parametrize("text", LOST)
@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
def test_a_lost_device_is_never_out_of_memory(text: str, kind: type[RuntimeError]) -> None:
    error = kind(text)
    assert is_device_lost(error) and not is_out_of_memory(error)
    with pytest.raises(DeviceLostError, match="Restart ComfyUI") as raised, host_errors():
        raise error
    assert raised.value.__cause__ is error
    assert not isinstance(raised.value, torch.OutOfMemoryError)
    assert is_device_lost(raised.value) and not is_out_of_memory(raised.value)


def test_the_message_of_a_lost_device_is_not_read_as_out_of_memory_by_hosts() -> None:
    assert "out of memory" not in DEVICE_LOST_MESSAGE.lower()


@pytest.mark.parametrize("text", NEITHER)
def test_other_errors_pass_unchanged(text: str) -> None:
    error = RuntimeError(text)
    assert not is_out_of_memory(error) and not is_device_lost(error)
    with pytest.raises(RuntimeError) as raised, host_errors():
        raise error
    assert raised.value is error and error.__cause__ is None


@pytest.mark.parametrize("text", [OUT_OF_MEMORY[0], LOST[0]])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, MemoryError])
def test_only_runtime_errors_are_the_drivers(text: str, kind: type[BaseException]) -> None:
    error = kind(text)
    assert not is_out_of_memory(error) and not is_device_lost(error)
    with pytest.raises(kind) as raised, host_errors():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), DeviceLostError("gone")]
)
def test_clear_errors_pass_unchanged(error: RuntimeError) -> None:
    @host_errors()
    def raising() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        raising()
    assert raised.value is error and error.__cause__ is None


def test_a_decorated_function_is_the_same_otherwise() -> None:
    @host_errors()
    def decode(samples: int, *, tile: int = 2) -> int:
        """Decode."""
        return samples * tile

    assert decode(3, tile=4) == 12
    assert decode.__name__ == "decode" and decode.__doc__ == "Decode."
    assert decode.__wrapped__(3) == 6


@pytest.mark.parametrize("style", ["torch", "out_of_device_memory", "out_of_resources"])
def test_a_full_card(emulated_xpu: Callable[..., EmulatedXpu], style: str) -> None:
    emulated_xpu([DeviceSpec(A770, total_memory=64 * MIB, oom=style)])
    with pytest.raises(torch.OutOfMemoryError), host_errors():
        torch.empty(65 * MIB, dtype=torch.uint8, device="xpu")
    assert torch.ones(3, device="xpu").sum().item() == 3


def test_a_lost_card(emulated_xpu: Callable[..., EmulatedXpu]) -> None:
    emulated = emulated_xpu(["a770"])
    tensor = torch.ones(3, device="xpu")
    emulated.devices[0].lose()
    with pytest.raises(DeviceLostError), host_errors():
        tensor.add(1)
