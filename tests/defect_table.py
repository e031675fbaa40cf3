"""docs/bare-hosts.md as data, and which of its defects a host shows."""

import functools

import hosts
import models
import probes
from conftest import REPOSITORY

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
