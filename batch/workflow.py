"""A workflow in API format: which inputs its nodes have, and copies of it with other values."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeGuard, cast

from .errors import BatchInputError

OWN_NAMES = "filename_prefix"
"""An input that no column may set: results are named after their job."""


Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class PromptNode(TypedDict):
    """A node in API format."""

    class_type: str
    inputs: dict[str, Json]


class TitledNode(PromptNode, total=False):
    """The same as the page exports it."""

    _meta: dict[str, Json]


Prompt = Mapping[str, PromptNode]


@dataclass(frozen=True)
class Target:
    node: str
    """The node's id."""
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


def is_link(value: Json) -> TypeGuard[list[Json]]:
    """Whether an input's value is another node's output: [id, number]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


class Workflow:
    """The nodes of a workflow in API format, by id."""

    def __init__(self, nodes: Mapping[str, Json]) -> None:
        """Raises `BatchInputError` if `nodes` is no workflow in API format."""
        if "nodes" in nodes and "links" in nodes:
            raise BatchInputError(
                "The workflow is in the format of ComfyUI's page. Save it again in API format: "
                "Workflow > Export (API)."
            )
        for key, node in nodes.items():
            if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
                raise BatchInputError(f"The workflow is not in API format: {key!r} is no node.")
            if not isinstance(node.get("class_type"), str):
                raise BatchInputError(f"The workflow's node {key!r} has no class_type.")
        if not nodes:
            raise BatchInputError("The workflow has no nodes.")
        self.nodes = cast(dict[str, TitledNode], dict(nodes))

    @classmethod
    def read(cls, path: Path) -> "Workflow":
        """The workflow in a file. Raises `BatchInputError`."""
        try:
            nodes = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BatchInputError(f"The workflow {path} cannot be read: {error}") from error
        if not isinstance(nodes, dict):
            raise BatchInputError(
                f"The workflow {path} is not in API format: it is no JSON object."
            )
        return cls(nodes)

    def title(self, node: str) -> str:
        """The title that a node has on the page; "" if the file tells none."""
        return str(self.nodes[node].get("_meta", {}).get("title", ""))

    def find(self, name: str) -> Target:
        """The input that "NODE.INPUT" names; NODE is an id, or a title or class of one node.

        Raises `BatchInputError` with what there is.
        """
        reason = ""
        for node_name, input_name in _splits(name):
            nodes = self._called(node_name)
            having = [node for node in nodes if input_name in self.nodes[node]["inputs"]]
            if len(nodes) == 1 and having:
                return self._settable(Target(nodes[0], input_name), name)
            reason = reason or self._not_found(node_name, input_name, nodes)
        reason = reason or "it is not of the form NODE.INPUT."
        raise BatchInputError(f"{name!r} names no input: {reason}\n{self.describe()}")

    def value(self, target: Target) -> Json:
        return self.nodes[target.node]["inputs"][target.input]

    def with_values(self, values: Mapping[Target, Json]) -> dict[str, PromptNode]:
        """The nodes with other values. What stays as it is, is shared: there may be many jobs."""
        nodes: dict[str, PromptNode] = {**self.nodes}
        for target, value in values.items():
            node = nodes[target.node]
            nodes[target.node] = {**node, "inputs": {**node["inputs"], target.input: value}}
        return nodes

    def of_class(self, kind: str) -> list[str]:
        """The ids of the nodes of a class."""
        return [key for key, node in self.nodes.items() if node["class_type"] == kind]

    def describe(self) -> str:
        """Every node with the inputs that can be set, a line each."""
        lines = ["The workflow has:"]
        for key, node in self.nodes.items():
            settable = [
                name
                for name, value in node["inputs"].items()
                if not is_link(value) and name != OWN_NAMES
            ]
            title = self.title(key)
            title = f' "{title}"' if title and title != node["class_type"] else ""
            inputs = ", ".join(settable) or "no input that can be set"
            lines.append(f"  {key} {node['class_type']}{title}: {inputs}")
        return "\n".join(lines)

    def _called(self, name: str) -> list[str]:
        if name in self.nodes:
            return [name]
        return [
            key for key, node in self.nodes.items() if name in (node["class_type"], self.title(key))
        ]

    def _not_found(self, node_name: str, input_name: str, nodes: list[str]) -> str:
        if not nodes:
            known = set(self.nodes) | {self.title(key) for key in self.nodes}
            known |= {node["class_type"] for node in self.nodes.values()}
            close = difflib.get_close_matches(node_name, sorted(known - {""}), 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            return f"there is no node {node_name!r}.{hint}"
        if len(nodes) > 1:
            ways = " or ".join(f"{node}.{input_name}" for node in nodes)
            return f"{node_name!r} may be the nodes {', '.join(nodes)}. Write {ways}."
        close = difflib.get_close_matches(input_name, self.nodes[nodes[0]]["inputs"], 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"the node {nodes[0]} has no input {input_name!r}.{hint}"

    def _settable(self, target: Target, name: str) -> Target:
        value = self.value(target)
        if is_link(value):
            raise BatchInputError(
                f"{name!r} cannot be set: it is linked to the node {value[0]}. Set an input of "
                f"that node.\n{self.describe()}"
            )
        if target.input == OWN_NAMES:
            raise BatchInputError(
                f"{name!r} cannot be set: results are named after their job. Name the jobs in a "
                "column called job."
            )
        return target


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every way to cut "NODE.INPUT" at a dot, from the right: both may hold dots."""
    end = len(name)
    while (end := name.rfind(".", 0, end)) > 0:
        if name[end + 1 :]:
            yield name[:end].strip(), name[end + 1 :].strip()
