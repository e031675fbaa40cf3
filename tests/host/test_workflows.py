"""Workflow JSON through the real server: repeatable, and the same everywhere in fp32.

"xpu" is the emulated device of tests/xpu_emulator, never Intel hardware.
"""

import hosts
import numpy as np
import pytest
import servers
from servers import Configuration, Run, ServerPool

pytestmark = pytest.mark.host

# On the CPU OpenCV computes what torch computes on devices. Both are within 1 LSB of what the
# preprocessors are defined by, rounded to 8 bits at other places.
MOST_LSB = {"preprocess": 2}


def run_once(pool: ServerPool, version: str, name: str, device: str) -> Run:
    """Run a workflow with nothing loaded or cached."""
    server = pool.get(servers.on_device(version, device))
    return server.run_fresh(servers.workflow(name, device))


def run_twice(pool: ServerPool, version: str, name: str, device: str) -> tuple[Run, Run]:
    """Two runs that must not differ: on the same device, or on either of two equal cards."""
    one, other = ("xpu:0", "xpu:1") if device == "xpu" else (device, device)
    return run_once(pool, version, name, one), run_once(pool, version, name, other)


@pytest.fixture(scope="session")
def reference(pool: ServerPool) -> dict[str, Run]:
    """What the reference host makes of every workflow on the CPU."""
    names = servers.workflow_names()
    return {name: run_once(pool, hosts.REFERENCE, name, "cpu") for name in names}


@pytest.mark.parametrize("name", servers.workflow_names())
def test_a_workflow_is_repeatable_and_equals_the_reference_host_on_the_cpu(
    pool: ServerPool,
    reference: dict[str, Run],
    host_version: str,
    name: str,
    workflow_device: str,
) -> None:
    first, second = run_twice(pool, host_version, name, workflow_device)
    assert first.images, "the workflow saved no picture"
    for one, other, expected in zip(
        first.images, second.images, reference[name].images, strict=True
    ):
        assert one.std() > 5, "the picture is flat: the model's numbers vanished or saturated"
        assert np.array_equal(one, other), "the same configuration gave other pixels"
        difference = np.abs(one.astype(int) - expected.astype(int)).max()
        assert difference <= MOST_LSB.get(name, 1), f"{difference} LSB away from the reference host"


def test_without_an_xpu_this_extension_changes_no_byte(
    pool: ServerPool, host_version: str, pytestconfig: pytest.Config
) -> None:
    """In the dtypes that the host chooses itself, on the CPU and on a real NVIDIA card."""
    nvidia = [((), True)] if pytestconfig.getoption("--cuda") else []
    for arguments, sees_card in [(("--cpu",), False), *nvidia]:
        for name in ("txt2img", "img2img"):
            bare, extended = (
                pool.get(
                    Configuration(host_version, arguments, extension=extension, nvidia=sees_card)
                ).run_fresh(servers.without_our_nodes(servers.workflow(name)))
                for extension in (False, True)
            )
            for one, other in zip(bare.images, extended.images, strict=True):
                assert np.array_equal(one, other), f"{name} with {arguments or 'the NVIDIA card'}"


def test_prompt_image_lora_and_controlnet_change_the_picture(reference: dict[str, Run]) -> None:
    """The checkpoints are worth testing with: every part of them shows in the result."""
    plain = reference["txt2img"].images[0].astype(int)
    for name in ("img2img", "lora", "controlnet"):
        changed = np.abs(plain - reference[name].images[0].astype(int)).mean()
        assert changed > 2, f"{name} changes the picture by only {changed:.2f} of 255"


def test_the_model_runs_on_the_chosen_card_and_nothing_crosses_between_cards(
    pool: ServerPool, host_version: str
) -> None:
    server = pool.get(servers.on_device(host_version, "xpu:1"))
    before = server.emulated_cards()
    for name in ("txt2img", "controlnet", "lora"):
        server.run_fresh(servers.workflow(name, "xpu:1"))
    after = server.emulated_cards()
    convolutions = "aten::convolution_overrideable"
    ran = after[1]["op_calls"][convolutions] - before[1]["op_calls"].get(convolutions, 0)
    assert ran > 0, "the model did not run on xpu:1"
    assert servers.peer_copies(after) == servers.peer_copies(before)
