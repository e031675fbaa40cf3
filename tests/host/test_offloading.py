"""Weights that do not stay on the card: the host's modes on emulated XPUs, against the CPU.

All on the emulated device of tests/xpu_emulator, never on Intel hardware.
"""

import re
from dataclasses import dataclass

import numpy as np
import pytest
import servers
from servers import Configuration, ServerPool

pytestmark = pytest.mark.host

CARD = ("--device", "a770", "--async-copies")

# 2 GiB less what the host keeps for inference (0.8 GiB and a reserve of 0.4) would hold the
# small model whole; a larger reserve leaves room for part of it.
SMALL_CARD = (*CARD, "--memory", "2GiB")
RESERVE = ("--reserve-vram", "1.1")


@dataclass(frozen=True)
class Mode:
    """One way in which the host keeps weights off the card."""

    arguments: tuple[str, ...]
    emulator: tuple[str, ...]
    log: str
    """What the host's log must say for the mode to have been in force."""


PARTIAL = r"loaded partially"

MODES = {
    "small card": Mode(RESERVE, SMALL_CARD, PARTIAL),
    "lowvram": Mode(("--lowvram", *RESERVE), SMALL_CARD, PARTIAL),
    "novram": Mode(("--novram", "--async-offload"), CARD, PARTIAL),
}


@pytest.fixture(scope="module")
def on_the_cpu(pool: ServerPool, host_version: str) -> np.ndarray:
    """The picture of the workflow unet_lora on the CPU, as int."""
    run = pool.get(Configuration(host_version)).run_fresh(servers.workflow("unet_lora", "auto"))
    return run.images[0].astype(int)


@pytest.mark.parametrize("name", MODES)
def test_weights_that_are_streamed_give_the_cpus_picture(
    pool: ServerPool, host_version: str, on_the_cpu: np.ndarray, name: str
) -> None:
    mode = MODES[name]
    arguments = ("--force-fp32", *mode.arguments)
    server = pool.get(Configuration(host_version, arguments, emulator=mode.emulator))
    image = server.run_fresh(servers.workflow("unet_lora", "auto")).images[0]
    assert re.search(mode.log, server.log), "the mode was not in force"
    difference = np.abs(image.astype(int) - on_the_cpu).max()
    assert difference <= 1, f"{difference} LSB away from the CPU"


def test_fp8_weights_give_the_cpus_picture(pool: ServerPool, host_version: str) -> None:
    """By the loader's choice on the CPU, by the host's argument on the card."""
    workflow = servers.workflow("unet_lora", "auto")
    # Into fp8 weights a LoRA is rounded at random, and a card draws numbers of its own.
    workflow["9"]["inputs"] |= {"strength_model": 0.0, "strength_clip": 0.0}
    plain = pool.get(Configuration(host_version)).run_fresh(workflow).images[0]
    by_argument = Configuration(host_version, ("--fp8_e4m3fn-unet",), emulator=CARD)
    card = pool.get(by_argument).run_fresh(workflow).images[0]
    workflow["10"]["inputs"]["weight_dtype"] = "fp8_e4m3fn"
    on_cpu = pool.get(Configuration(host_version)).run_fresh(workflow).images[0]
    assert np.abs(card.astype(int) - on_cpu.astype(int)).mean() <= 1
    assert not np.array_equal(on_cpu, plain), "the weights were not stored in fp8"
