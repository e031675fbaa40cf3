"""docs/decisions.md: every answer in its tables is what the host decides, on emulated cards.

The NVIDIA card is faked, and only asked, never computed on: no torch holds both makers' back ends.
"""

import re

import hosts
import pytest
from conftest import REPOSITORY
from decision_table import DOCUMENT, expected, observed, table

pytestmark = pytest.mark.host


@pytest.mark.parametrize("cards", ["intel", "both"])
@pytest.mark.parametrize("extension", ["bare", str(REPOSITORY)], ids=["bare", "extended"])
def test_every_decision_is_what_the_table_says(
    host_version: str, extension: str, cards: str
) -> None:
    column = hosts.installed(host_version).version if extension == "bare" else "extended"
    assert observed(host_version, extension, cards) == expected(column, cards)


def test_with_this_extension_no_decision_ends_in_an_error() -> None:
    assert [key for key, answers in table().items() if "error" in answers["extended"]] == []


def test_the_document_explains_every_question() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for question in {key.split(" | ")[1] for key in table()}:
        assert re.search(rf"^- `{question}`: ", text, re.MULTILINE), question
