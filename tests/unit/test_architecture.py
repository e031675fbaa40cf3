"""What the rooms of the house may know of each other, read from the syntax trees of its files."""

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from comfyui_ipex.tools.house_figures import (
    REPOSITORY,
    Graph,
    Modules,
    SourceModule,
    classes_by_name,
    find_cycles,
    functions_called,
    import_graph,
    nodes_at_start,
    reachable,
    read_modules,
    shortest_cycle,
)

MODULES = read_modules()

OUT_OF_MEMORY = {
    "OutOfMemoryError",
    "is_out_of_any_memory",
    "is_out_of_memory",
    "out_of_memory_class",
}

ENGINE = ("inference", "nodes")

EVICTING = {"evict", "free_everything_on", "unload"}
"""The host's functions (`xpu_runtime/host`) that take models off a device."""

LOCATIONS = {"Here", "There"}

GONE = (
    "nodes/upscale/upscaler.py",
    "nodes/upscale/inpainting.py",
    "nodes/preprocess/loaded.py",
    "nodes/*/running.py",
    "nodes/*/elsewhere.py",
)

NO_MODULE_NAMES = {"elsewhere", "running", "utils", "helper", "helpers", "misc", "common"}

NO_FUNCTION_NAMES = {
    *("run", "told", "kept", "placed", "known", "running", "elsewhere", "fix", "hijack"),
}

WITHOUT_TORCH = (
    "launcher.cli",
    "nix.start.bundle",
    "tools.testing",
    "batch.cli",
    "batch.launch",
)
"""What starts before torch is there, or in a process that has no need of it."""

APART = {
    "xpu_runtime.host": ("xpu_runtime.",),
    "xpu_runtime.processes": ("xpu_runtime.",),
    "xpu_runtime.workers": ("xpu_runtime.placement", "xpu_runtime.seams", "xpu_runtime.decisions"),
}
"""By package, the modules that it may not import: of its own it always may."""


def place_of(module: SourceModule, node: ast.AST) -> str:
    """Where something stands: "nodes/inputs.py:12"."""
    return f"{module.path.relative_to(REPOSITORY).as_posix()}:{getattr(node, 'lineno', 0)}"


def uses(module: SourceModule, names: set[str]) -> Iterator[str]:
    """Where a module imports or names one of `names`."""
    for node in ast.walk(module.tree):
        found = (
            {alias.name.rpartition(".")[2] for alias in node.names}
            if isinstance(node, ast.Import | ast.ImportFrom)
            else {getattr(node, "id", None), getattr(node, "attr", None)}
        )
        for name in sorted(names & found):
            yield f"{place_of(module, node)} {name}"


def cycles_in(graph: Graph) -> list[str]:
    """Every cycle of imports, in words."""
    return [" -> ".join(shortest_cycle(graph, group)) for group in find_cycles(graph)]


def remote_questions(module: SourceModule) -> Iterator[str]:
    """Where a module knows of workers, or asks where something is."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            names = {*(node.module or "").split("."), *(alias.name for alias in node.names)}
            if {"workers", "remote"} & names:
                yield f"{place_of(module, node)} imports workers"
        elif isinstance(node, ast.Attribute) and node.attr == "worker":
            yield f"{place_of(module, node)} .worker"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            if LOCATIONS & {getattr(one, "id", getattr(one, "attr", "")) for one in ast.walk(node)}:
                yield f"{place_of(module, node)} isinstance"


def patcher_uses(module: SourceModule) -> Iterator[str]:
    """Where a module reaches into a patcher: `x.patcher.y`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "attr", "") == "patcher":
            yield f"{place_of(module, node)} .patcher.{node.attr}"


def forbidden_imports(package: str) -> Iterator[str]:
    """What the modules of a package import although `APART` says that they may not."""
    graph = import_graph(MODULES)
    inside = {name for name in MODULES if name == package or name.startswith(f"{package}.")}
    for name in sorted(inside):
        for other in sorted(graph[name] - inside):
            if other.startswith(APART[package]):
                yield f"{name} imports {other}"


def everywhere(
    find: Callable[[SourceModule], Iterator[str]], folders: Sequence[str], but: str = ""
) -> list[str]:
    """What `find` finds in the modules of these folders, but for one."""
    modules = [one for one in MODULES.values() if one.room in folders and one.name != but]
    return [one for module in modules for one in find(module)]


RULES: dict[str, Callable[[], Iterable[str]]] = {
    "no module imports itself by way of others": lambda: (
        name for group in find_cycles(import_graph(MODULES)) for name in group
    ),
    "only inference/stream.py handles memory that ran out": lambda: everywhere(
        lambda module: uses(module, OUT_OF_MEMORY), ENGINE, "inference.stream"
    ),
    "only inference/budget.py evicts": lambda: everywhere(
        lambda module: uses(module, EVICTING), ENGINE, "inference.budget"
    ),
    "nodes do not ask where something runs": lambda: everywhere(remote_questions, ["nodes"]),
    "nodes leave patchers alone": lambda: everywhere(patcher_uses, ["nodes"]),
    "the second engine is gone": lambda: (
        path.relative_to(REPOSITORY).as_posix() for gone in GONE for path in REPOSITORY.glob(gone)
    ),
    "public classes have unique names": lambda: (
        name for name, where in classes_by_name(MODULES).items() if len(where) > 1
    ),
    "modules are called after what is in them": lambda: (
        name for name in MODULES if name.rpartition(".")[2] in NO_MODULE_NAMES
    ),
    "functions are called after what they do": lambda: (
        name
        for name in functions_called(sorted(NO_FUNCTION_NAMES), MODULES)
        if name != "inference.stream.run"  # the one run that the word is for
    ),
    "packages of the runtime stay apart": lambda: (
        wrong for package in APART for wrong in forbidden_imports(package)
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_of_the_house(rule: str) -> None:
    assert list(RULES[rule]()) == []


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_starts_the_host_does_not_load_torch(name: str) -> None:
    loaded = {name, *reachable(import_graph(MODULES, at_start=True), name)}
    wrong = [
        place_of(MODULES[one], node)
        for one in sorted(loaded)
        for node in nodes_at_start(MODULES[one].tree)
        if "torch" in imported_packages(node)
    ]
    assert wrong == []


def imported_packages(node: ast.AST) -> set[str]:
    """The packages, but ours, that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {(node.module or "").partition(".")[0]}
    return set()


# What follows is about this file's own eyes: each thing is found where it is.


def house_of(folder: Path, files: dict[str, str]) -> Modules:
    """The modules of a small repository of these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return read_modules(folder)


@pytest.mark.parametrize(
    "files",
    [
        {"a/one.py": "from .two import x", "a/two.py": "def f():\n    from . import one"},
        {
            "a/one.py": "from .two import x",
            "a/two.py": "if TYPE_CHECKING:\n    from .one import A",
        },
        {"a/one.py": "from ..b import two", "b/two.py": "import comfyui_ipex.a.one"},
        {"a/__init__.py": "from .one import x", "a/one.py": "from . import y"},
        {
            "a/table.py": "importlib.import_module(f'.suites.{row.module}', __package__)",
            "a/suites/one.py": "from .. import table",
        },
        {
            "a/one.py": "import_module(f'{PACKAGE}.b.two')",
            "b/two.py": "from ..a.one import f",
        },
    ],
    ids=["function", "annotation", "absolute", "package", "suite", "name"],
)
def test_a_cycle_is_found_whatever_imports(tmp_path: Path, files: dict[str, str]) -> None:
    (cycle,) = cycles_in(import_graph(house_of(tmp_path, files)))
    assert cycle.count(" -> ") == 2


def test_what_is_no_cycle_is_not_found(tmp_path: Path) -> None:
    files = {
        "a/__init__.py": "from .one import x",
        "a/one.py": "from .two import y",
        "a/two.py": "import_module(f'{ROOT}.{rest[0]}')\nfrom ..b import c",
        "b.py": "c = 1",
    }
    assert cycles_in(import_graph(house_of(tmp_path, files))) == []


@pytest.mark.parametrize(
    ("text", "find", "count"),
    [
        ("from ...xpu_runtime.errors import is_out_of_any_memory", "memory", 1),
        ("try:\n    f()\nexcept torch.OutOfMemoryError:\n    pass", "memory", 1),
        ("host.evict(device, 1)\nhost.free_everything_on(device)\nhost.unload(p)", "evicts", 3),
        ("from ..xpu_runtime.workers import Worker", "remote", 1),
        ("from ..xpu_runtime import workers", "remote", 1),
        ("isinstance(place, location.There)\nisinstance(place, Here)", "remote", 2),
        ("known.network.worker.call(f)", "remote", 1),
        ("location.runs_beside(other)\nlocation.call(f)", "remote", 0),
        ("model.patcher.load_device", "patcher", 1),
    ],
)
def test_what_nodes_must_not_do_is_found(tmp_path: Path, text: str, find: str, count: int) -> None:
    module = house_of(tmp_path, {"nodes/one.py": text})["nodes.one"]
    module = SourceModule(module.name, REPOSITORY / "nodes" / "one.py", False)
    vars(module)["tree"] = ast.parse(text)
    finders = {
        "memory": lambda: uses(module, OUT_OF_MEMORY),
        "evicts": lambda: uses(module, EVICTING),
        "remote": lambda: remote_questions(module),
        "patcher": lambda: patcher_uses(module),
    }
    assert len(list(finders[find]())) == count


def test_classes_and_functions_are_found_by_their_names(tmp_path: Path) -> None:
    files = {"a/one.py": "class A: pass\nclass _B: pass", "b.py": "class A:\n    def run(self): 1"}
    modules = house_of(tmp_path, files)
    assert classes_by_name(modules) == {"A": ["a.one", "b"]}
    assert functions_called(["run"], modules) == ["b.A.run"]
