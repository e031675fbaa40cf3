"""The workflows that ComfyUI's template browser shows fit the nodes."""

import json
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex import nodes
from comfyui_ipex.xpu_runtime import host
from conftest import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "example_workflows").glob("*.json"))

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN"}


def is_widget(kind: Any) -> bool:
    """Whether an input of this kind is a widget and not a socket."""
    return isinstance(kind, list) or kind in WIDGETS


def seed_of(options: Any) -> bool:
    """Whether the page puts a widget of its own behind this one: what comes after a run."""
    return bool(options.get("control_after_generate"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_the_sockets_and_widgets_of_our_nodes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    links = {link[0]: link for link in workflow["links"]}
    ours = [node for node in workflow["nodes"] if node["type"].startswith("Ipex")]
    assert ours
    for node in ours:
        cls = nodes.NODE_CLASS_MAPPINGS[node["type"]]
        names = [value for value in node["widgets_values"] if isinstance(value, str)]
        monkeypatch.setattr(host, "model_names", lambda folder, names=names: names)
        for listed in ("sampler_names", "scheduler_names"):
            monkeypatch.setattr(host, listed, lambda names=names: names)
        inputs = [pair for group in cls.INPUT_TYPES().values() for pair in group.items()]
        widgets = [spec for _, spec in inputs if is_widget(spec[0])]
        for at in [at for at, (_, options) in enumerate(widgets) if seed_of(options)]:
            widgets.insert(at + 1, (["fixed"], {}))
        assert len(node["widgets_values"]) == len(widgets)
        for value, (kind, options) in zip(node["widgets_values"], widgets, strict=True):
            if isinstance(kind, list):
                assert value in kind
            elif kind == "BOOLEAN":
                assert isinstance(value, bool)
            else:
                assert options["min"] <= value <= options["max"]
        sockets = [(name, spec[0]) for name, spec in inputs if not is_widget(spec[0])]
        assert [(one["name"], one["type"]) for one in node["inputs"]] == sockets
        assert [one["type"] for one in node["outputs"]] == list(cls.RETURN_TYPES)
        optional = cls.INPUT_TYPES().get("optional", {})
        for index, one in enumerate(node["inputs"]):
            if one["link"] is None and one["name"] in optional:
                continue
            assert links[one["link"]][3:] == [node["id"], index, one["type"]]
