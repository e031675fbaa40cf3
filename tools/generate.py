"""Writes what follows from the code: English and other locales, and tables of README.md.

`.venv/bin/python tools/generate.py` writes; tests compare. Translations are a table from English
texts in docs/translations/<language>.json: a text that is missing there is an error that names it.
"""

import json
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

REPOSITORY = Path(__file__).resolve().parent.parent

if "comfyui_ipex" not in sys.modules:
    # The repository as a package, without running its __init__.py, which belongs to ComfyUI.
    package = types.ModuleType("comfyui_ipex")
    package.__path__ = [str(REPOSITORY)]
    sys.modules["comfyui_ipex"] = package

from comfyui_ipex import nodes  # noqa: E402
from comfyui_ipex.nodes.preprocess.catalogue import METHODS  # noqa: E402
from comfyui_ipex.xpu_runtime import host  # noqa: E402
from comfyui_ipex.xpu_runtime.priority import Primary  # noqa: E402
from comfyui_ipex.xpu_runtime.seams import Circumstances, seams  # noqa: E402
from comfyui_ipex.xpu_runtime.seams.memory import MemoryReader  # noqa: E402
from comfyui_ipex.xpu_runtime.settings import SETTINGS  # noqa: E402

LOCALES = REPOSITORY / "locales"
TRANSLATIONS = REPOSITORY / "docs" / "translations"
ENGLISH = "en"
_NODES = "nodeDefs.json"

_SPECIAL = re.compile(r"[@{}|]")
"""What ComfyUI's page (vue-i18n) reads as markup."""


class MissingTranslationError(Exception):
    """A language's table lacks texts."""


def literal(text: str) -> str:
    """A text as it must be written so that ComfyUI's page shows it unchanged."""
    return _SPECIAL.sub(lambda found: "{'" + found.group() + "'}", text)


def _key(name: str) -> str:
    """A name as ComfyUI's page looks it up: a dot would be a level."""
    return name.replace(".", "_")


def node_definitions() -> dict[str, Any]:
    """Every node's texts by its id, as ComfyUI's page wants them in nodeDefs.json."""
    with mock.patch.object(host, "model_names", lambda folder: []):
        return {
            _key(name): _definition(name, node) for name, node in nodes.NODE_CLASS_MAPPINGS.items()
        }


def _definition(name: str, node: Any) -> dict[str, Any]:
    groups = node.INPUT_TYPES()
    inputs = {key: spec for group in ("required", "optional") for key, spec in _of(groups, group)}
    names = getattr(node, "RETURN_NAMES", node.RETURN_TYPES)
    outputs = zip(names, node.OUTPUT_TOOLTIPS, strict=True)
    return {
        "display_name": literal(nodes.NODE_DISPLAY_NAME_MAPPINGS[name]),
        "description": literal(node.DESCRIPTION),
        "inputs": {
            _key(key): {"name": literal(key), "tooltip": literal(spec[1]["tooltip"])}
            for key, spec in inputs.items()
        },
        "outputs": {
            str(index): {"name": literal(output), "tooltip": literal(tooltip)}
            for index, (output, tooltip) in enumerate(outputs)
        },
    }


def _of(groups: Mapping[str, Any], group: str) -> Iterator[tuple[str, Any]]:
    yield from groups.get(group, {}).items()


def as_json(content: Any) -> str:
    """The form in which all files are written."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    for value in content.values():
        yield from texts(value)


def translated(content: Any, table: Mapping[str, str]) -> Any:
    """A locale's content with the texts of `table`. Raises `KeyError` for the first it lacks."""
    if isinstance(content, str):
        return table[content]
    return {name: translated(value, table) for name, value in content.items()}


def english() -> dict[str, Any]:
    """The content of locales/en by file: nodeDefs.json from the code, the others as they are."""
    written = {path.name: read_json(path) for path in sorted((LOCALES / ENGLISH).glob("*.json"))}
    return written | {_NODES: node_definitions()}


def languages() -> list[str]:
    return sorted(path.stem for path in TRANSLATIONS.glob("*.json"))


def locale_files() -> dict[Path, str]:
    """Every file of locales/ and its text. Raises `MissingTranslationError`."""
    original = english()
    found = {LOCALES / ENGLISH / _NODES: as_json(original[_NODES])}
    for language in languages():
        table = read_json(TRANSLATIONS / f"{language}.json")
        wanting = sorted(set(texts(original)) - set(table))
        if wanting:
            raise MissingTranslationError(
                f"docs/translations/{language}.json lacks these texts. Add each with its "
                f"translation, then run tools/generate.py again:\n{as_json(wanting)}"
            )
        for name, content in original.items():
            found[LOCALES / language / name] = as_json(translated(content, table))
    return found


def seam_table() -> str:
    """What is changed in ComfyUI: a row for each reason, in the order of THE table."""
    circumstances = Circumstances(Primary("xpu", None, None), 1, False, None)
    by_reason: dict[str, list[str]] = {}
    for seam in seams(circumstances, MemoryReader()):
        by_reason.setdefault(seam.reason, []).append(f"`{seam.name}`")
    rows = [f"| {', '.join(names)} | {reason} |" for reason, names in by_reason.items()]
    return _table(("Change", "What fails without it"), rows)


def settings_table() -> str:
    rows = [f"| `{one.name}` | {one.values} | {one.default} | {one.meaning} |" for one in SETTINGS]
    return _table(("Setting", "Values", "Default", "Meaning"), rows)


def _table(titles: tuple[str, ...], rows: list[str]) -> str:
    head = f"| {' | '.join(titles)} |"
    return "\n".join([head, f"|{' --- |' * len(titles)}", *rows])


def successors_table() -> str:
    """comfyui_controlnet_aux's nodes and ours, from the names under which ours are searched for."""
    rows = []
    for method in sorted(METHODS.values(), key=lambda one: one.aliases[0].lower()):
        theirs = [f"`{name}`" for name in method.aliases if _is_id(name)]
        page = f"../web/docs/Ipex{method.name}Preprocessor.md"
        rows.append(f"| {', '.join(theirs)} | [{method.title} (IPEX)]({page}) |")
    aio = "| `AIO_Preprocessor` | [AIO Preprocessor (IPEX)](../web/docs/IpexAIOPreprocessor.md) |"
    return _table(("comfyui_controlnet_aux", "Here"), [aio, *rows])


def _is_id(alias: str) -> bool:
    return " " not in alias and alias != alias.lower()


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"changes": seam_table, "settings": settings_table},
    "docs/migration.md": {"controlnet-aux": successors_table},
}
"""By document, then by the name in the comments around the table."""


def with_tables(document: str) -> str:
    """A document's text with its generated tables. Raises `ValueError` if one has no place."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    for name, make in TABLES[document].items():
        place = rf"(<!-- {name}: [^>]*-->\n)(?:.*?)(<!-- end -->)"
        parts = re.split(place, text, flags=re.DOTALL)
        if len(parts) != 4:
            raise ValueError(f"{document} needs one place for the table '{name}'.")
        before, start, end, after = parts
        text = f"{before}{start}{make()}\n{end}{after}"
    return text


def files() -> dict[Path, str]:
    """Every generated file and its text. Raises `MissingTranslationError` or `ValueError`."""
    documents = {REPOSITORY / document: with_tables(document) for document in TABLES}
    return locale_files() | documents


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
