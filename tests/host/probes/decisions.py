"""Runs inside a host's process: what does it decide about each device?

usage: decisions.py EXTENSION CARDS [ARGUMENT ...]        (working directory: the host's tree)
Prints one line of JSON: {"CARD | QUESTION": ANSWER}. EXTENSION is this extension's folder, or
"bare" to leave it out. CARDS is "intel": emulated cards one after the other in one process, or
"both": an emulated B580 beside a CUDA card that is faked (`FakeCuda`), since no torch holds both.
The ARGUMENTs are the host's own.
"""

import asyncio
import dataclasses
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path.cwd()))
EXTENSION, CARDS, *ARGUMENTS = sys.argv[1:]
sys.argv = ["main.py", *ARGUMENTS]

import psutil  # noqa: E402
import torch  # noqa: E402
import xpu_emulator  # noqa: E402

GIB = 1 << 30
SD15_PARAMETERS = 860_000_000
FLOATS = [torch.float16, torch.bfloat16, torch.float32]


class WrongMakerError(AssertionError):
    """A back end was asked about the other maker's card."""


class FakeCuda:
    """What the host asks of `torch.cuda` when it decides, answered for one H100."""

    def __init__(self) -> None:
        self.emptied = 0

    def install(self) -> None:
        """Put the answers into `torch.cuda`, and make `torch.xpu` refuse CUDA's devices too."""
        torch.version.cuda = "13.0"
        properties = SimpleNamespace(
            name="NVIDIA H100 (faked)", major=9, minor=0, total_memory=80 * GIB, uuid="GPU-1"
        )
        bytes_held = {"reserved_bytes.all.current": 0, "active_bytes.all.current": 0}
        answers: dict[str, Callable[[], Any]] = {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda: properties.name,
            "get_device_properties": lambda: properties,
            "memory_stats": lambda: bytes_held,
            "mem_get_info": lambda: (79 * GIB, 80 * GIB),
            "is_bf16_supported": lambda: True,
            "empty_cache": self._empty,
            "ipc_collect": lambda: None,
            "synchronize": lambda: None,
        }
        for name, answer in answers.items():
            setattr(torch.cuda, name, self._checked(answer))
        for name in ("get_device_properties", "memory_stats", "mem_get_info", "get_device_name"):
            setattr(torch.xpu, name, _refusing_cuda(getattr(torch.xpu, name)))

    def _empty(self) -> None:
        self.emptied += 1

    @staticmethod
    def _checked(answer: Callable[[], Any]) -> Callable[..., Any]:
        def call(device: Any = None, *_: Any, **__: Any) -> Any:
            if isinstance(device, torch.device) and device.type != "cuda":
                raise WrongMakerError(f"torch.cuda was asked about {device}")
            return answer()

        return call


def _refusing_cuda(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(device: Any = None) -> Any:
        if isinstance(device, torch.device) and device.type != "xpu":
            raise WrongMakerError(f"torch.xpu was asked about {device}")
        return original(device)

    return call


EMULATED = xpu_emulator.current()
FAKE_CUDA = FakeCuda()
if CARDS == "both":
    FAKE_CUDA.install()

import comfy.options  # noqa: E402

# The host reads the command line when it is imported.
comfy.options.enable_args_parsing()

import comfy.model_management as mm  # noqa: E402
from comfy.ldm.flux import layers as flux_layers  # noqa: E402


def _amount(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _dtype(dtype: torch.dtype | None) -> str:
    return "as stored" if dtype is None else str(dtype).removeprefix("torch.")


def _yes(answer: object) -> str:
    return "yes" if answer else "no"


def total_memory(device: torch.device) -> str:
    """How much memory has the card?"""
    return _amount(mm.get_total_memory(device))


def free_memory(device: torch.device) -> str:
    """How much is free while other programs hold 2 GiB?"""
    _other_programs(device, 2 * GIB)
    free = mm.get_free_memory(device)
    _other_programs(device, 0)
    if device.type == "xpu" and torch.xpu.get_device_properties(device).is_integrated_gpu:
        # The machine's own memory differs from run to run.
        within = free <= psutil.virtual_memory().available * 1.05
        return "what the machine has left" if within else "more than the machine has"
    return _amount(free)


def free_memory_by_a_silent_driver(device: torch.device) -> str:
    """How much is free where the driver answers 0, as some do that cannot tell?"""
    EMULATED.devices[device.index].change(mem_get_info=0)
    return _amount(mm.get_free_memory(device))


def _other_programs(device: torch.device, count: int) -> None:
    if device.type == "xpu":
        EMULATED.devices[device.index].change(external_memory=count)


def sd15_weights(device: torch.device) -> str:
    """In which dtype are SD1.5's weights kept?"""
    return _dtype(mm.unet_dtype(device, SD15_PARAMETERS, FLOATS))


def fp8_weights(device: torch.device) -> str:
    """In which dtype are fp8 weights kept?"""
    fp8 = torch.float8_e4m3fn
    return _dtype(mm.unet_dtype(device, SD15_PARAMETERS, FLOATS, weight_dtype=fp8))


def fp8_weights_compute(device: torch.device) -> str:
    """In which dtype does a model of fp8 weights compute?"""
    return _dtype(mm.unet_manual_cast(torch.float8_e4m3fn, device, FLOATS))


def flux_compute(device: torch.device) -> str:
    """In which dtype do Flux's bf16 weights compute?"""
    return _dtype(mm.unet_manual_cast(torch.bfloat16, device, [torch.bfloat16, torch.float32]))


def vae_weights(device: torch.device) -> str:
    """In which dtype is a VAE kept that allows bf16?"""
    return _dtype(mm.vae_dtype(device, [torch.bfloat16, torch.float32]))


def text_encoder_weights(device: torch.device) -> str:
    """In which dtype are text encoders kept?"""
    return _dtype(mm.text_encoder_dtype(device))


def fp8_matmul(device: torch.device) -> str:
    """Are fp8 matrices multiplied as such?"""
    return _yes(mm.supports_fp8_compute(device))


def non_blocking(device: torch.device) -> str:
    """Do copies return before they are finished?"""
    return _yes(mm.device_supports_non_blocking(device))


def rope_detour(device: torch.device) -> str:
    """Does Flux's position encoding go through the CPU?"""
    positions = torch.arange(16, dtype=torch.float32).reshape(1, 16).to(device)
    EMULATED.reset_counters()
    flux_layers.rope(positions, 64, 10000)
    return _yes(EMULATED.devices[device.index].counters()["d2h"]["count"])


def primary_device(_: torch.device) -> str:
    """On which device does the host run?"""
    return str(mm.get_torch_device())


def text_encoder_device(_: torch.device) -> str:
    """On which device do text encoders run?"""
    return mm.text_encoder_device().type


def xformers(_: torch.device) -> str:
    """Would xformers be used if it were installed?"""
    mm.XFORMERS_IS_AVAILABLE = True
    return _yes(mm.xformers_enabled())


def caches_emptied(_: torch.device) -> str:
    """Whose cached memory is given back?"""
    emptied = []
    held = torch.empty(64 << 20, dtype=torch.uint8, device="xpu")
    del held
    before = FAKE_CUDA.emptied
    mm.soft_empty_cache()
    if FAKE_CUDA.emptied > before:
        emptied.append("cuda")
    if torch.xpu.memory_reserved() == 0:
        emptied.append("xpu")
    torch.xpu.empty_cache()
    return " and ".join(emptied) or "nobody's"


OF_A_CARD = (
    total_memory,
    free_memory,
    sd15_weights,
    fp8_weights,
    fp8_weights_compute,
    flux_compute,
    vae_weights,
    text_encoder_weights,
    fp8_matmul,
    non_blocking,
)
OF_AN_INTEL_CARD = (*OF_A_CARD, free_memory_by_a_silent_driver, rope_detour)
OF_THE_PROCESS = (primary_device, text_encoder_device, xformers, caches_emptied)


def answer(question: Callable[[torch.device], str], device: torch.device) -> str:
    """The answer, or the error that the host's own code ends in."""
    try:
        return question(device)
    except (RuntimeError, ValueError, AssertionError, KeyError, AttributeError) as error:
        return f"error: {type(error).__name__}"


def intel() -> dict[str, str]:
    """Every card alone, one after the other."""
    profiles = dict(xpu_emulator.PROFILES)
    # Its driver says nothing about bf16 and free memory. Last: that its driver does not answer
    # is remembered for the rest of the process.
    profiles["lunar_lake"] = dataclasses.replace(
        profiles.pop("lunar_lake"), has_bfloat16_conversions=False, total_memory=64 * GIB
    )
    device = torch.device("xpu:0")
    answers = {}
    for name, profile in profiles.items():
        EMULATED.configure([profile])
        questions = OF_A_CARD if name == "lunar_lake" else OF_AN_INTEL_CARD
        for question in (*OF_THE_PROCESS, *questions, rope_detour):
            answers[f"{name} | {question.__name__}"] = answer(question, device)
    return answers


def both() -> dict[str, str]:
    """An NVIDIA card and an Intel card in one process."""
    answers = {
        f"both | {question.__name__}": answer(question, torch.device("cuda:0"))
        for question in OF_THE_PROCESS
    }
    for name, questions in (("cuda:0", OF_A_CARD), ("xpu:0", OF_AN_INTEL_CARD)):
        for question in questions:
            answers[f"{name} of both | {question.__name__}"] = answer(question, torch.device(name))
    return answers


def load_extension() -> None:
    """Load the extension as the host does."""
    import nodes

    loaded = nodes.load_custom_node(EXTENSION)
    assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded


if __name__ == "__main__":
    if EXTENSION != "bare":
        load_extension()
    sys.stdout.write(json.dumps({"intel": intel, "both": both}[CARDS]()) + "\n")
