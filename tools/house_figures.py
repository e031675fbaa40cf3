"""Figures about this project's Python, for one revision or to compare several.

usage: python3 tools/house_figures.py [REVISION ...]     (none: the files as they lie here)

`tests/` is left out, but for its lines. tests/unit/test_architecture.py uses the same functions.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = "comfyui_ipex"

ROOT = "(root)"
"""The files that lie in the repository's own folder."""

PRODUCT = (ROOT, "nodes", "inference", "xpu_runtime", "batch", "benchmarks", "launcher")
"""What users install and run."""

_TYPE_CHECKING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@dataclass(frozen=True)
class SourceModule:
    name: str
    """Below this package, with dots; "" for the repository's own `__init__.py`."""
    path: Path
    is_package: bool

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """The folder of the repository that it lies in."""
        inner = "." in self.name or (self.is_package and self.name)
        return self.name.split(".")[0] if inner else ROOT

    @property
    def folder(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


Modules = Mapping[str, SourceModule]
"""By name."""

Graph = Mapping[str, set[str]]
"""By a module's name, the names of those that it imports."""


def read_modules(root: Path = REPOSITORY, skipped: Sequence[str] = ("tests",)) -> Modules:
    """Every Python file below `root` but those in hidden and in `skipped` folders."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in skipped or any(part.startswith(".") for part in parts):
            continue
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = SourceModule(name, path, is_package)
    return found


def import_graph(modules: Modules, at_start: bool = False) -> Graph:
    """Who imports whom: in functions, for annotations and by literal names as well.

    With `at_start` only what runs when a module is loaded, and the packages around what is
    imported, whose `__init__.py` runs first.
    """
    graph: dict[str, set[str]] = {}
    for module in modules.values():
        found = set(_imports(module, modules, at_start))
        if at_start:
            found |= {parent for name in found for parent in _parents(name) if parent in modules}
        graph[module.name] = found - {module.name}
    return graph


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _imports(module: SourceModule, modules: Modules, at_start: bool) -> Iterator[str]:
    nodes = nodes_at_start(module.tree) if at_start else ast.walk(module.tree)
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield from _imported_from(module, node, modules)
        elif isinstance(node, ast.Import):
            yield from _known([alias.name for alias in node.names], modules)
        elif isinstance(node, ast.Call) and _name_of(node.func).endswith("import_module"):
            yield from _loaded_by_name(module, node, modules)


def nodes_at_start(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is loaded."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and _name_of(node.test) in _TYPE_CHECKING:
            continue
        yield node
        yield from nodes_at_start(node)


def _imported_from(module: SourceModule, node: ast.ImportFrom, modules: Modules) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        around = module.folder.split(".") if module.folder else []
        around = around[: len(around) - node.level + 1]
        base = ".".join([*around, *filter(None, [node.module])])
    elif base.split(".")[0] == PACKAGE:
        base = base.removeprefix(PACKAGE).removeprefix(".")
    else:
        return
    for alias in node.names:
        inner = f"{base}.{alias.name}".removeprefix(".")
        if inner in modules:
            yield inner
        elif base in modules:
            yield base


def _known(names: Sequence[str], modules: Modules) -> Iterator[str]:
    for name in names:
        below = name.removeprefix(f"{PACKAGE}.")
        if below != name and below in modules:
            yield below


def _loaded_by_name(module: SourceModule, call: ast.Call, modules: Modules) -> Iterator[str]:
    """The modules that `import_module` may load: its name may have parts that are not literal.

    A name of which nothing is literal, as one that came over a wire, stands for nothing.
    """
    pattern = _pattern_of(call.args[0])
    if pattern.startswith(re.escape(".")):
        pattern = re.escape(f"{module.folder}.") + pattern.removeprefix(re.escape("."))
    else:
        # What stands first is this package's name, whatever the variable is called.
        head, dot, pattern = pattern.partition(re.escape("."))
        if not dot or head not in (PACKAGE, r"[\w.]+"):
            return
    if pattern.strip(".") in ("", r"[\w.]+", r"[\w"):
        return
    yield from (name for name in modules if re.fullmatch(pattern, name))


def _pattern_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern_of(part) for part in node.values)
    return r"[\w.]+"


def _name_of(node: ast.expr) -> str:
    """A name with dots, such as "importlib.import_module"; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name_of(node.value)}.{node.attr}"
    return ""


def reachable(graph: Graph, start: str) -> set[str]:
    """What `start` imports, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def find_cycles(graph: Graph) -> list[list[str]]:
    """The groups of modules that import each other, directly or not."""
    reached = {name: reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached.get(other, ())))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def shortest_cycle(graph: Graph, group: Sequence[str]) -> list[str]:
    """One way around in a group of `find_cycles`, the first module again at its end."""
    ways = [[group[0]]]
    while True:
        ways = [[*way, name] for way in ways for name in sorted(graph[way[-1]] & {*group})]
        done = next((way for way in ways if way[-1] == group[0]), None)
        if done:
            return done
        ways = list({way[-1]: way for way in ways}.values())


def classes_by_name(modules: Modules) -> dict[str, list[str]]:
    """The public classes: for each name, the modules that have a class of it."""
    found: dict[str, list[str]] = defaultdict(list)
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module.name)
    return dict(found)


def functions_called(names: Sequence[str], modules: Modules) -> list[str]:
    """Where functions and methods of these names stand: "module.Class.name"."""
    found = []
    for module in modules.values():
        for scope, node in _functions(module.tree, module.name):
            if node.name in names:
                found.append(f"{scope}.{node.name}")
    return found


def _functions(
    tree: ast.AST, scope: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield scope, node
        inner = f"{scope}.{node.name}" if isinstance(node, ast.ClassDef) else scope
        yield from _functions(node, inner)


def any_parameters(module: SourceModule) -> int:
    """How many parameters are typed `Any`, whole or in part (`dict[str, Any]`)."""
    arguments = (one for _, node in _functions(module.tree, "") for one in _arguments(node))
    return sum(
        any(_name_of(part) in ("Any", "typing.Any") for part in ast.walk(one.annotation))
        for one in arguments
        if one.annotation is not None
    )


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    given = node.args
    spread = [one for one in (given.vararg, given.kwarg) if one is not None]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *spread]


def code_lines(module: SourceModule) -> int:
    """Lines that hold code: no blank one, no comment, no docstring."""
    texts = {
        line
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - texts)


_NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


Figures = dict[str, int]
"""By what is counted, in the order in which it is shown."""


def measure(root: Path) -> Figures:
    """The figures of the files below `root`."""
    everything = read_modules(root, skipped=())
    modules = {name: one for name, one in everything.items() if one.room != "tests"}
    lines: Counter[str] = Counter()
    code: Counter[str] = Counter()
    untyped: Counter[str] = Counter()
    for module in everything.values():
        lines[module.room] += module.text.count("\n")
        code[module.room] += code_lines(module)
        untyped[module.room] += any_parameters(module)
    classes = classes_by_name(modules)
    cycles = find_cycles(import_graph(modules))
    rooms = sorted(lines, key=lambda room: (room == "tests", room))
    return {
        **{f"lines: {room}": lines[room] for room in rooms},
        "lines: product": sum(lines[room] for room in PRODUCT),
        **{f"code: {room}": code[room] for room in rooms},
        "code: product": sum(code[room] for room in PRODUCT),
        **{f"Any parameters: {room}": untyped[room] for room in rooms if room != "tests"},
        "Any parameters: product": sum(untyped[room] for room in PRODUCT),
        "class names used twice": sum(len(where) > 1 for where in classes.values()),
        "import cycles": len(cycles),
        "modules in import cycles": sum(map(len, cycles)),
        "functions called run": len(functions_called(["run"], modules)),
    }


def describe_names(root: Path) -> Iterator[str]:
    """Lines that name what `measure` only counts."""
    modules = read_modules(root)
    for name, where in sorted(classes_by_name(modules).items()):
        if len(where) > 1:
            yield f"class {name}: {', '.join(where)}"
    graph = import_graph(modules)
    for group in find_cycles(graph):
        yield f"cycle: {' -> '.join(shortest_cycle(graph, group))} ({len(group)} modules)"
    for place in functions_called(["run"], modules):
        yield f"function: {place}"


def unpack_revision(revision: str, folder: Path) -> str:
    """Write the files of a commit into a new folder; returns the commit's id.

    Raises `subprocess.CalledProcessError` for what git does not know.
    """
    command = ["git", "rev-parse", "--verify", f"{revision}^{{commit}}"]
    found = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    commit = found.stdout.strip()
    command = ["git", "archive", "--format=tar", commit]
    packed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True).stdout
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return commit


def measure_revision(revision: str, names: list[str]) -> Figures:
    """The figures of a commit; `names` gets the lines of `describe_names`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "revision"
        unpack_revision(revision, folder)
        names += describe_names(folder)
        return measure(folder)


def main(arguments: Sequence[str]) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revisions", nargs="*", metavar="REVISION")
    parser.add_argument("--names", action="store_true", help="name what is counted, too")
    chosen = parser.parse_args(arguments)
    columns: dict[str, Figures] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for revision in chosen.revisions:
        columns[revision] = measure_revision(revision, names[revision])
    if not columns:
        columns["here"], names["here"] = measure(REPOSITORY), [*describe_names(REPOSITORY)]
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    out = [f"{'':34}" + "".join(f"{title:>12}" for title in columns)]
    for row in rows:
        out.append(f"{row:34}" + "".join(f"{one.get(row, 0):>12}" for one in columns.values()))
    for title, lines in names.items() if chosen.names else ():
        out += ["", title, *lines]
    sys.stdout.write("\n".join(out) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
