"""docs/decisions.md: every answer in its tables is what the host decides, on emulated cards.

The NVIDIA card is faked, and only asked, never computed on: no torch holds both makers' back ends.
"""

import functools
import re

import hosts
import probes
import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.host

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
    expected: dict[str, dict[str, str]] = {}
    for cards, question, *answers in rows:
        for card in INTEL if cards == "every Intel card" else cards.split(", "):
            key = f"{card} | {question}"
            assert key not in expected, f"two rows for {key}"
            expected[key] = dict(zip(header[2:], answers, strict=True))
    return expected


@functools.cache
def observed(version: str, extension: str, cards: str) -> dict[str, str]:
    """What a host answers, "bare" or with the extension at a path."""
    prefix = ("-m", "xpu_emulator", "--device", "b580", "--")
    host = hosts.installed(version)
    return dict(probes.ask(host, "decisions", extension, cards, prefix=prefix))


@pytest.mark.parametrize("cards", ["intel", "both"])
@pytest.mark.parametrize("extension", ["bare", str(REPOSITORY)], ids=["bare", "extended"])
def test_every_decision_is_what_the_table_says(
    host_version: str, extension: str, cards: str
) -> None:
    column = hosts.installed(host_version).version if extension == "bare" else "extended"
    seen = observed(host_version, extension, cards)
    expected = {
        key: answers[column]
        for key, answers in table().items()
        if (" of both" in key or key.startswith("both")) == (cards == "both")
    }
    assert seen == expected


def test_with_this_extension_no_decision_ends_in_an_error() -> None:
    assert [key for key, answers in table().items() if "error" in answers["extended"]] == []


def test_the_document_explains_every_question() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for question in {key.split(" | ")[1] for key in table()}:
        assert re.search(rf"^- `{question}`: ", text, re.MULTILINE), question
