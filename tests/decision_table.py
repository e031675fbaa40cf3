"""docs/decisions.md as data, and what a host answers to its questions."""

import functools

import hosts
import probes
from conftest import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "decisions.md"

INTEL = ("a770", "a380", "b580", "max_1100", "lunar_lake")


@functools.cache
def table() -> dict[str, dict[str, str]]:
    """ "card | question" -> column -> answer. A row may stand for several cards."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    header, _, *rows = lines
    answered: dict[str, dict[str, str]] = {}
    for cards, question, *answers in rows:
        for card in INTEL if cards == "every Intel card" else cards.split(", "):
            key = f"{card} | {question}"
            assert key not in answered, f"two rows for {key}"
            answered[key] = dict(zip(header[2:], answers, strict=True))
    return answered


@functools.cache
def observed(version: str, extension: str, cards: str, *arguments: str) -> dict[str, str]:
    """What a host that got `arguments` answers, "bare" or with the extension at a path."""
    prefix = ("-m", "xpu_emulator", "--device", "b580", "--")
    host = hosts.installed(version)
    return dict(probes.ask(host, "decisions", extension, cards, *arguments, prefix=prefix))


def expected(column: str, cards: str) -> dict[str, str]:
    """The answers of a column of the table: for "intel" cards, or for "both" makers' in one."""
    return {
        key: answers[column]
        for key, answers in table().items()
        if (" of both" in key or key.startswith("both")) == (cards == "both")
    }
