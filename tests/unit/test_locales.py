"""The texts of ComfyUI's page: complete, from the code, and in a second language."""

import json
import re
from typing import Any

import pytest
from comfyui_ipex import nodes
from comfyui_ipex.tools import generate
from conftest import REPOSITORY

AGAIN = "run .venv/bin/python tools/generate.py and commit what it writes"

PANEL = (REPOSITORY / "web" / "report_panel.js").read_text(encoding="utf-8")

LONG = 30
"""A text of so many characters is a sentence, which no language leaves as it is."""


def locale(language: str, name: str) -> Any:
    """A file's content."""
    return generate.read_json(generate.LOCALES / language / f"{name}.json")


def shape(content: Any) -> Any:
    """The keys without their texts."""
    if isinstance(content, str):
        return None
    return {name: shape(value) for name, value in content.items()}


def test_generated_files_are_what_the_code_says() -> None:
    for path, text in generate.files().items():
        name = path.relative_to(REPOSITORY)
        assert path.exists(), f"{name} is not there: {AGAIN}"
        assert path.read_text(encoding="utf-8") == text, f"{name} is out of date: {AGAIN}"


def test_every_node_has_its_texts_and_no_other_has() -> None:
    assert set(locale("en", "nodeDefs")) == set(nodes.NODE_CLASS_MAPPINGS)
    for name, texts in locale("en", "nodeDefs").items():
        returned = nodes.NODE_CLASS_MAPPINGS[name].RETURN_TYPES
        assert list(texts["outputs"]) == [str(index) for index in range(len(returned))]
        assert texts["display_name"]
        assert texts["description"]
        for one in (*texts["inputs"].values(), *texts["outputs"].values()):
            assert one["name"]
            assert one["tooltip"]


def test_every_submenu_has_its_text() -> None:
    known = set(locale("en", "main")["nodeCategories"])
    used = {
        part for node in nodes.NODE_CLASS_MAPPINGS.values() for part in node.CATEGORY.split("/")
    }
    assert used <= known, "add the submenu to locales/en/main.json, then " + AGAIN


@pytest.mark.parametrize("language", generate.languages())
def test_a_language_has_all_that_english_has(language: str) -> None:
    for name in ("main", "nodeDefs", "settings", "commands"):
        assert shape(locale(language, name)) == shape(locale("en", name))
        pairs = zip(
            generate.texts(locale("en", name)), generate.texts(locale(language, name)), strict=True
        )
        for english, other in pairs:
            assert other
            assert len(english) < LONG or other != english


def test_the_panel_finds_its_texts_settings_and_commands() -> None:
    texts = locale("en", "main")["ipexReport"]
    used = set(re.findall(r"\btexts\.(\w+)", PANEL))
    assert used == set(texts)
    assert set(re.findall(r'id: "([^"]+)"', PANEL)) == {"comfyui-ipex.ShowReport"}
    assert set(locale("en", "commands")) == {"comfyui-ipex_ShowReport"}
    (setting,) = re.findall(r'SETTING = "([^"]+)"', PANEL)
    assert set(locale("en", "settings")) == {setting.replace(".", "_")}
    options = set(re.findall(r'text: "([^"]+)", value', PANEL))
    assert options == set(locale("en", "settings")[setting.replace(".", "_")]["options"])


def test_the_panel_knows_every_state_of_a_change() -> None:
    from comfyui_ipex.xpu_runtime.seam import SeamState

    states = locale("en", "main")["ipexReport"]["states"]
    assert set(states) == {state.value for state in SeamState}


def test_what_the_page_reads_as_markup_is_written_so_that_it_is_shown() -> None:
    """A bare @ or brace in a message keeps the page (vue-i18n) from showing it."""
    assert generate.literal("xpu@uuid {a|b}") == "xpu{'@'}uuid {'{'}a{'|'}b{'}'}"
    for path in generate.LOCALES.rglob("*.json"):
        for text in generate.texts(json.loads(path.read_text(encoding="utf-8"))):
            assert not re.search(r"[@{}|]", re.sub(r"\{'[@{}|]'\}", "", text)), text


def test_a_text_without_a_translation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "english", lambda: {"nodeDefs.json": {"a": "Unheard of"}})
    with pytest.raises(generate.MissingTranslationError, match="Unheard of"):
        generate.locale_files()
