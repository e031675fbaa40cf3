"""What this extension settles before each host imports torch, seen in the host's own main.py."""

from pathlib import Path

import pytest
from comfyui_ipex.launcher.installation import EXTENSION_NAME
from conftest import REPOSITORY
from starts import Outcome, base_folder, start, started_by_another_name

pytestmark = pytest.mark.host

ONE_CARD = ("--device", "a770")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, host_version: str) -> Path:
    """A base directory with this extension and the spy."""
    return base_folder(tmp_path_factory.mktemp(host_version), spy=True)


@pytest.fixture(scope="module")
def on_a_card(base: Path, host_version: str) -> Outcome:
    """A start on an emulated card."""
    outcome = start(host_version, base, cards=ONE_CARD)
    assert outcome.status == 0, outcome.words[-2000:]
    return outcome


def runtime_below(folder: Path) -> str:
    """The name of our runtime module where the pack is loaded from `folder`."""
    return str(folder).replace(".", "_x_") + ".xpu_runtime.runtime"


def test_prestart_and_pack_share_one_instance_of_each_module(
    on_a_card: Outcome, base: Path
) -> None:
    # custom_nodes has a link: the name comes from the path as the host joined it.
    assert on_a_card.seen["runtimes"] == [runtime_below(base / "custom_nodes" / EXTENSION_NAME)]
    assert "PRESTARTUP FAILED" not in on_a_card.words
    assert "Torch already imported" not in on_a_card.words


def test_the_host_is_changed_before_it_imports_what_copies_from_it(on_a_card: Outcome) -> None:
    assert on_a_card.seen["early"]
    assert on_a_card.seen["finders"] == []
    [seams] = on_a_card.seen["seams"]
    assert seams["free-memory"] == "installed"


def test_ipex_optimize_is_off_and_the_card_is_not_given_up(on_a_card: Outcome) -> None:
    assert not on_a_card.seen["ipex_optimize"]
    assert not on_a_card.seen["cpu"]


@pytest.mark.parametrize("first", ["", "import comfy.model_management"])
def test_two_instances_of_our_modules_change_the_host_once(
    host_version: str, tmp_path: Path, first: str
) -> None:
    """As under a launcher with names of its own, and beside a pack that imports the host early."""
    base = started_by_another_name(tmp_path, first)
    outcome = start(host_version, base, cards=ONE_CARD)
    assert outcome.status == 0, outcome.words[-2000:]
    pack = base / "custom_nodes" / EXTENSION_NAME
    assert outcome.seen["runtimes"] == [runtime_below(REPOSITORY), runtime_below(pack)]
    assert outcome.seen["early"]
    assert outcome.seen["finders"] == []
    prestarted, loaded = outcome.seen["seams"]
    assert prestarted["free-memory"] == "installed"
    assert loaded["free-memory"] == "installed (by an earlier installation)"


def test_a_forced_cpu_leaves_the_card_alone(host_version: str, base: Path) -> None:
    outcome = start(host_version, base, cards=ONE_CARD, settings={"COMFYUI_IPEX_DEVICE": "cpu"})
    assert outcome.status == 0, outcome.words[-2000:]
    assert outcome.seen["cpu"]
    assert "Device: cpu" in outcome.words
    assert "WARNING" not in outcome.words


@pytest.mark.parametrize(
    ("setting", "arguments", "words"),
    [
        ("xpu", (), "'xpu' was asked for, but torch does not offer it here"),
        ("xpu", ("--cpu",), "COMFYUI_IPEX_DEVICE=xpu and --cpu ask for different devices"),
    ],
)
def test_a_device_that_cannot_be_had_ends_the_start_with_a_remedy(
    host_version: str, base: Path, setting: str, arguments: tuple[str, ...], words: str
) -> None:
    settings = {"COMFYUI_IPEX_DEVICE": setting}
    outcome = start(host_version, base, arguments, settings=settings)
    assert outcome.status == 1
    assert words in outcome.words
    assert "Traceback" not in outcome.words
    assert "Total VRAM" not in outcome.words
