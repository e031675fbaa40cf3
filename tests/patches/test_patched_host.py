"""The patched host itself, alone and with this extension. Every XPU here is emulated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import defect_table
import hosts
import numpy as np
import probes
import pytest
import servers
from comfyui_ipex.xpu_runtime.seams import PATCHED
from conftest import REPOSITORY
from decision_table import expected, observed
from patch_series import named_rows
from servers import TWO_CARDS, Configuration, Run, ServerPool
from starts import start

pytestmark = pytest.mark.host

WORKFLOWS = ("txt2img", "img2img", "controlnet", "unet_lora", "upscale")

NO_PACKS = "--disable-all-custom-nodes"

RELEASED_CPU = Configuration(hosts.REFERENCE, extension=False)
CPU = Configuration(hosts.PATCHED, ("--cpu", NO_PACKS), extension=False)
FORCED = Configuration(
    hosts.PATCHED,
    ("--force-fp32", "--force-intel-xpu", "--default-device", "1", NO_PACKS),
    extension=False,
    emulator=TWO_CARDS,
)
EXTENDED = Configuration(hosts.PATCHED, ("--force-fp32",), emulator=TWO_CARDS)


def pictures(
    pool: ServerPool, configuration: Configuration, names: Sequence[str] = WORKFLOWS
) -> dict[str, Run]:
    """What a server makes of workflows; with the extension its nodes choose xpu:0."""
    server = pool.get(configuration)
    chosen = {name: servers.workflow(name, "xpu:0") for name in names}
    if not configuration.extension:
        chosen = {name: servers.without_our_nodes(nodes) for name, nodes in chosen.items()}
    return {name: server.run_fresh(nodes) for name, nodes in chosen.items()}


@pytest.fixture(scope="module")
def released(pool: ServerPool) -> dict[str, Run]:
    """What the unpatched host makes of each workflow on the CPU."""
    return pictures(pool, RELEASED_CPU)


def difference(one: Run, other: Run) -> int:
    """The largest difference between the pictures of two runs, in LSB."""
    assert one.images
    pairs = zip(one.images, other.images, strict=True)
    return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs)


@pytest.mark.parametrize("cards", ["intel", "both"])
@pytest.mark.parametrize("extension", ["bare", str(REPOSITORY)], ids=["alone", "extended"])
def test_the_patched_host_decides_as_the_extension_does(extension: str, cards: str) -> None:
    assert observed(hosts.PATCHED, extension, cards) == expected("extended", cards)


def test_a_forced_card_comes_before_an_nvidia_card() -> None:
    answers = observed(hosts.PATCHED, "bare", "both", "--force-intel-xpu")
    assert answers["both | primary_device"] == "xpu:0"
    assert answers["both | text_encoder_device"] == "xpu"


@pytest.mark.parametrize("cards", defect_table.CHECKS)
def test_the_patched_host_has_none_of_the_defects_that_the_extension_repairs(
    cards: tuple[str, ...],
) -> None:
    seen = defect_table.observed(hosts.PATCHED, cards, "bare")
    repaired = defect_table.repaired()
    assert seen == {check: not repaired[check] for check in defect_table.CHECKS[cards]}


def test_on_the_cpu_the_patched_host_changes_no_byte(
    pool: ServerPool, released: dict[str, Run]
) -> None:
    found = pictures(pool, CPU)
    assert {name: difference(found[name], released[name]) for name in WORKFLOWS} == dict.fromkeys(
        WORKFLOWS, 0
    )


@pytest.mark.parametrize(
    ("configuration", "names", "card"),
    [(FORCED, WORKFLOWS, 1), (EXTENDED, ("img2img", "controlnet"), 0)],
    ids=["forced", "extended"],
)
def test_workflows_on_the_chosen_card_equal_those_on_the_cpu(
    pool: ServerPool,
    released: dict[str, Run],
    configuration: Configuration,
    names: tuple[str, ...],
    card: int,
) -> None:
    found = pictures(pool, configuration, names)
    assert max(difference(found[name], released[name]) for name in names) <= 1
    convolutions = [
        counted["op_calls"].get("aten::convolution_overrideable", 0)
        for counted in pool.get(configuration).emulated_cards()
    ]
    assert convolutions[card] > 0
    assert convolutions[1 - card] == 0


def test_system_stats_list_both_cards_once(pool: ServerPool) -> None:
    for configuration, cards in ((FORCED, [1, 0]), (EXTENDED, [0, 1])):
        listed = pool.get(configuration).client.get_json("/system_stats")["devices"]
        assert [(row["type"], row["index"]) for row in listed] == [("xpu", card) for card in cards]
        assert len({tuple(row) for row in listed}) == 1


def test_the_extension_says_of_each_change_that_this_host_is_patched(pool: ServerPool) -> None:
    report: dict[str, Any] = pool.get(EXTENDED).client.get_json("/ipex/report", format="json")
    rows = {row["seam"]: row for row in report["seams"]}
    assert {row["state"] for row in rows.values()} == {"not needed"}
    for_both_makers = {"nvidia-or-not", "device-name", "fp16", "fp8-compute"}
    others = {*for_both_makers, "primary-device", "flash-attention-assumption"}
    assert {name for name, row in rows.items() if row["detail"] == PATCHED} == (
        named_rows() - others
    )
    assert "comfyui-ipex changed" not in pool.get(EXTENDED).log


def test_the_option_is_in_the_help_with_a_sentence(tmp_path: Path) -> None:
    done = start(hosts.PATCHED, tmp_path, ("--help",))
    assert done.status == 0
    words = " ".join(done.words.split())
    assert "--force-intel-xpu Run on the Intel GPU, also beside an NVIDIA card." in words


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("--cpu",), {}, "--force-intel-xpu and --cpu ask for different devices"),
        (("--directml",), {}, "--force-intel-xpu and --directml ask for different devices"),
        (
            (),
            {"COMFYUI_IPEX_DEVICE": "cuda"},
            "COMFYUI_IPEX_DEVICE=cuda and --force-intel-xpu ask for different devices",
        ),
        ((), {}, "'xpu' was asked for, but torch does not offer it here"),
    ],
    ids=["cpu", "directml", "setting", "absent"],
)
def test_a_forced_card_that_cannot_be_had_ends_the_start_with_a_remedy(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], words: str
) -> None:
    given = ("--force-intel-xpu", NO_PACKS, *arguments)
    done = start(hosts.PATCHED, tmp_path, given, settings=settings)
    assert done.status == 1
    assert words in done.words
    assert "Traceback" not in done.words
    assert "Total VRAM" not in done.words


def test_without_a_gpu_and_with_a_wrong_ipex_the_patched_host_runs_on_the_cpu(
    tmp_path: Path,
) -> None:
    package = tmp_path / "site" / "intel_extension_for_pytorch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os\nos._exit(127)\n")
    done = start(hosts.PATCHED, tmp_path / "base", (NO_PACKS,), python_path=tmp_path / "site")
    assert done.status == 0, done.words[-2000:]
    assert "Device: cpu" in done.words
    assert "pip uninstall intel_extension_for_pytorch" in done.words
    assert "torch offers no GPU, so ComfyUI runs on the CPU. Why: " in done.words


def test_only_models_that_are_whole_on_a_card_are_told_to_optimisations() -> None:
    prefix = ("-m", "xpu_emulator", "--device", "a770", "--")
    assert probes.ask(hosts.installed(hosts.PATCHED), "full_load", prefix=prefix) == {
        "registered by default": 0,
        "whole on the card": 1,
        "in part on the card": 0,
        "whole on the CPU": 0,
    }
