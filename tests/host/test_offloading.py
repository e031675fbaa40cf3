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


@pytest.mark.parametrize("name", MODES)
def test_weights_that_are_streamed_give_the_cpus_picture(
    pool: ServerPool, host_version: str, name: str
) -> None:
    mode = MODES[name]
    workflow = servers.workflow("unet_lora", "auto")
    expected = pool.get(Configuration(host_version)).run_fresh(workflow).images[0]
    arguments = ("--force-fp32", *mode.arguments)
    server = pool.get(Configuration(host_version, arguments, emulator=mode.emulator))
    image = server.run_fresh(workflow).images[0]
    assert re.search(mode.log, server.log), "the mode was not in force"
    difference = np.abs(image.astype(int) - expected.astype(int)).max()
    assert difference <= 1, f"{difference} LSB away from the CPU"


def test_fp8_weights_give_the_cpus_picture(pool: ServerPool, host_version: str) -> None:
    fp8 = ("--fp8_e4m3fn-unet",)
    workflow = servers.workflow("txt2img", "auto")
    plain = pool.get(Configuration(host_version)).run_fresh(workflow).images[0]
    on_cpu = pool.get(Configuration(host_version, ("--cpu", *fp8))).run_fresh(workflow).images[0]
    card = pool.get(Configuration(host_version, fp8, emulator=CARD)).run_fresh(workflow).images[0]
    assert np.abs(card.astype(int) - on_cpu.astype(int)).mean() <= 1
    assert not np.array_equal(on_cpu, plain), "the weights were not stored in fp8"
