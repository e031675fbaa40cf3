"""docs/bare-hosts.md: every cell of its table is what the host does, on emulated cards."""

import functools
import re
from pathlib import Path

import hosts
import models
import probes
import pytest
from conftest import REPOSITORY
from servers import TWO_CARDS, Configuration, ServerPool, workflow
from starts import base_folder, start

pytestmark = pytest.mark.host

SMALL_CARDS = ("--device", "a770", "--count", "2", "--memory", "3GiB")
INTEGRATED = ("--device", "lunar_lake", "--memory", "64GiB")

# By the cards that a check needs; each set runs in one process of the host.
CHECKS = {
    SMALL_CARDS: (
        "free_memory_ignores_other_programs",
        "loading_dies_beside_other_programs",
        "unload_forgets_the_second_card",
        "previews_read_unfinished_copies",
        "level_zero_oom_is_not_oom",
        "vae_goes_on_without_its_weights",
        "lost_card_ends_the_worker",
        "attention_exceeds_the_allocation_limit",
        "sub_quadratic_attention_exceeds_the_allocation_limit",
        "split_attention_exceeds_the_allocation_limit",
        "vae_slice_attention_exceeds_the_allocation_limit",
        "upscaler_stays_on_the_card_after_an_error",
    ),
    INTEGRATED: (
        "integrated_bf16_is_not_seen",
        "integrated_copies_are_not_blocking",
        "integrated_free_memory_exceeds_the_machines",
        "rope_leaves_a_card_that_has_fp64",
    ),
}


def rows() -> list[list[str]]:
    """The document's table, its header first."""
    text = (REPOSITORY / "docs" / "bare-hosts.md").read_text(encoding="utf-8")
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return [lines[0], *lines[2:]]


def table() -> dict[str, dict[str, bool]]:
    """Check -> host version -> whether the defect shows on the bare host."""
    header, *body = rows()
    versions = header[2:-1]
    assert all(cell in ("shows", "-") for row in body for cell in row[2:-1])
    return {
        row[0]: {v: cell == "shows" for v, cell in zip(versions, row[2:-1], strict=True)}
        for row in body
    }


def repaired() -> dict[str, bool]:
    """Check -> whether this extension repairs it."""
    assert all(row[-1] in ("repaired", "not yet") for row in rows()[1:])
    return {row[0]: row[-1] == "repaired" for row in rows()[1:]}


@functools.cache
def observed(version: str, cards: tuple[str, ...], extension: str) -> dict[str, bool | str]:
    """What the checks for these cards see on a host, "bare" or with the extension at a path."""
    prefix = ("-m", "xpu_emulator", *cards, "--")
    # What the emulated card grants at once is nothing that torch could tell; the user can.
    settings = {"COMFYUI_IPEX_MAX_ALLOCATION": "64"}
    arguments = (str(models.written()), extension, *CHECKS[cards])
    return dict(
        probes.ask(
            hosts.installed(version), "defects", *arguments, prefix=prefix, settings=settings
        )
    )


@pytest.mark.parametrize(
    ("cards", "check"), [(cards, check) for cards, checks in CHECKS.items() for check in checks]
)
def test_a_defect_shows_where_the_table_says(
    host_version: str, cards: tuple[str, ...], check: str
) -> None:
    version = hosts.installed(host_version).version
    seen = observed(host_version, cards, "bare")[check]
    assert isinstance(seen, bool), seen
    assert seen == table()[check][version]


@pytest.mark.parametrize(
    ("cards", "check"), [(cards, check) for cards, checks in CHECKS.items() for check in checks]
)
def test_this_extension_repairs_what_the_table_says(
    host_version: str, cards: tuple[str, ...], check: str
) -> None:
    version = hosts.installed(host_version).version
    seen = observed(host_version, cards, str(REPOSITORY))[check]
    assert isinstance(seen, bool), seen
    assert seen == (table()[check][version] and not repaired()[check])


@pytest.mark.parametrize("extension", [False, True], ids=["bare", "extended"])
def test_start_dies_without_a_gpu(host_version: str, tmp_path: Path, extension: bool) -> None:
    check = "start_dies_without_a_gpu"
    done = start(host_version, base_folder(tmp_path, extension))
    died = done.status != 0 and (
        re.search(r"NVIDIA driver|not compiled with CUDA", done.words) is not None
    )
    version = hosts.installed(host_version).version
    shows = table()[check][version] and not (extension and repaired()[check])
    assert died == shows, done.words[-2000:]
    assert died or done.status == 0, done.words[-2000:]
    assert extension == ("so ComfyUI runs on the CPU. Why: " in done.words)


@pytest.mark.parametrize("extension", [False, True], ids=["bare", "extended"])
def test_mismatched_ipex_ends_the_process(
    host_version: str, tmp_path: Path, extension: bool
) -> None:
    """IPEX 2.7 to 2.10 end the process when torch is not exactly theirs; this stand-in does."""
    check = "mismatched_ipex_ends_the_process"
    package = tmp_path / "site" / "intel_extension_for_pytorch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os\nos._exit(127)\n")
    base = base_folder(tmp_path / "base", extension)
    done = start(host_version, base, ("--cpu",), python_path=tmp_path / "site")
    assert done.status in (0, 127), done.words[-2000:]
    version = hosts.installed(host_version).version
    shows = table()[check][version] and not (extension and repaired()[check])
    assert (done.status == 127) == shows
    assert extension == ("pip uninstall intel_extension_for_pytorch" in done.words)


def second_card(version: str, extension: bool) -> Configuration:
    """A server that is told to run on the second of two cards."""
    return Configuration(
        version, ("--default-device", "1"), extension=extension, emulator=TWO_CARDS
    )


@pytest.mark.parametrize("extension", [False, True], ids=["bare", "extended"])
def test_system_stats_and_default_device(
    pool: ServerPool, host_version: str, extension: bool
) -> None:
    server = pool.get(second_card(host_version, extension))
    listed = [device["name"] for device in server.client.get_json("/system_stats")["devices"]]
    version = server.host.version
    seen = {
        "system_stats_hide_the_second_card": len(listed) == 1,
        "default_device_is_ignored": "xpu:1" not in listed[0],
    }
    for check, shows in seen.items():
        assert shows == (table()[check][version] and not (extension and repaired()[check])), listed


def test_with_this_extension_the_default_device_runs_the_workflow(
    pool: ServerPool, host_version: str
) -> None:
    server = pool.get(second_card(host_version, extension=True))
    assert server.run_fresh(workflow("txt2img")).images
    convolutions = [
        card["op_calls"].get("aten::convolution_overrideable", 0)
        for card in server.emulated_cards()
    ]
    assert convolutions[0] == 0
    assert convolutions[1] > 0


def test_the_table_holds_every_check_and_every_version() -> None:
    checks = {check for names in CHECKS.values() for check in names}
    checks |= {
        "start_dies_without_a_gpu",
        "mismatched_ipex_ends_the_process",
        "default_device_is_ignored",
        "system_stats_hide_the_second_card",
    }
    assert set(table()) == checks
    assert all(tuple(row) == hosts.VERSIONS for row in table().values())
