"""Make the repository importable as `comfyui_ipex`; say at the end what ran, and what did not."""

import importlib.util
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import sampling

REPOSITORY = Path(__file__).resolve().parent.parent

SAMPLED = "Sampled by this commit (./test --campaign runs the full forms)"

# As a package, but without running its __init__.py: that one needs the host's process.
_package = types.ModuleType("comfyui_ipex")
_package.__path__ = [str(REPOSITORY)]
sys.modules.setdefault("comfyui_ipex", _package)

import hosts  # noqa: E402

# Run by `./test --ipex`, in an environment of its own.
collect_ignore = [] if importlib.util.find_spec("intel_extension_for_pytorch") else ["ipex"]


class _PlainRoot:
    """Keeps pytest from importing the repository's root as a test package.

    It has an __init__.py, because ComfyUI demands one, and pytest 8 and later would import it.
    """

    def pytest_collect_directory(
        self, path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        if path == REPOSITORY:
            return pytest.Dir.from_parent(parent, path=path)
        return None


def pytest_configure(config: pytest.Config) -> None:
    """Register what must be active before collection starts."""
    config.pluginmanager.import_plugin("xpu_emulator.pytest_plugin")
    config.pluginmanager.register(_PlainRoot(), "plain-root")
    config.pluginmanager.register(_Summary(), "summary")
    config.option.loadscopereorder = False  # xdist's own order is by the number of tests
    _choose_examples(config.getoption("--campaign"))


def _choose_examples(campaign: bool) -> None:
    """How many examples hypothesis tries: always the same few, or many that nobody has seen."""
    from hypothesis import HealthCheck, settings

    slow = list(HealthCheck)
    common = settings(deadline=None, database=None, suppress_health_check=slow)
    settings.register_profile("sample", common, derandomize=True, max_examples=60)
    settings.register_profile("campaign", common, max_examples=2000)
    settings.load_profile("campaign" if campaign else "sample")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of this suite."""
    parser.addoption(
        "--host",
        action="append",
        default=[],
        metavar="VERSION",
        help="run host tests only on this ComfyUI version (repeatable)",
    )
    parser.addoption(
        "--every-host",
        action="store_true",
        help="run host tests on every ComfyUI version, not on some between the ends in turn",
    )
    parser.addoption(
        "--every-allocation",
        action="store_true",
        help="let memory run out at every allocation of a workflow, not at some (an hour a kind)",
    )
    parser.addoption(
        "--browser",
        default="",
        metavar="CHROMIUM",
        help="run tests/browser in this browser (./test --browser passes it)",
    )
    parser.addoption(
        "--campaign",
        action="store_true",
        help="the full form of tests that take a sample otherwise (./test --campaign passes it)",
    )
    parser.addoption(
        "--cuda",
        default="",
        metavar="DEVICES",
        help="run workflows on these NVIDIA cards too (./test passes it where there is one)",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what needs a browser, unless one was given."""
    if collection_path == REPOSITORY / "tests" / "browser":
        return not config.getoption("--browser") or None
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `host_version` or `workflow_device` on each of them.

    The devices are the CPU, two emulated cards, and a real NVIDIA card if there is one.
    """
    if "host_version" in metafunc.fixturenames:
        ends = metafunc.definition.get_closest_marker("oldest_and_newest") is not None
        chosen = metafunc.config.getoption("--host") or _hosts(metafunc.config, ends)
        metafunc.parametrize("host_version", chosen, indirect=True, scope="session")
    if "workflow_device" in metafunc.fixturenames:
        real = ["cuda:0"] if metafunc.config.getoption("--cuda") else []
        metafunc.parametrize("workflow_device", ["cpu", "xpu", *real])


def _hosts(config: pytest.Config, ends: bool) -> tuple[str, ...]:
    """The versions that a test runs on: the oldest, the newest, and one between in its turn."""
    oldest, *between, newest = hosts.VERSIONS
    if ends:
        return oldest, newest
    if config.getoption("--every-host") or config.getoption("--campaign"):
        return hosts.VERSIONS
    one = sampling.share("ComfyUI between the oldest and the newest (--every-host)", between, 1)
    return oldest, *one, newest


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Keep in one worker what shares servers or answers, and start with what takes longest.

    The many short tests come last, so that no worker waits long for the other one.
    """
    for item in items:
        group = _group(item)
        if group and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(group))
    yield
    if hasattr(items[0].config if items else None, "workerinput"):
        items.sort(key=_turn)


def _group(item: pytest.Item) -> str:
    """What a test has to stay with, "" if nothing.

    Tests of one host version share its servers, or what their module has asked a process of the
    host; others share a fixture of their module. The emulator changes torch in its own process.
    """
    if "xpu_emulator" in item.path.parts:
        return "emulator"
    folder = item.path.parent.name
    if folder == "nix":
        return folder
    names = getattr(item, "fixturenames", ())
    shared = "servers" if "pool" in names else item.path.stem
    if folder == "patches":
        return f"patches {shared}"
    callspec = getattr(item, "callspec", None)
    version = callspec.params.get("host_version", "") if callspec is not None else ""
    if not version and folder == "host":  # what the others run on
        version = hosts.REFERENCE
    if version:
        return f"{version} {shared}"
    return f"{folder} {shared}" if _shares_a_fixture(item) else ""


def _shares_a_fixture(item: pytest.Item) -> bool:
    """Whether a test asks for something that its module makes once."""
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.values() if info is not None else ()
    return any(one.scope == "module" for found in definitions for one in found)


def _turn(item: pytest.Item) -> int:
    """0 for tests that share servers, 1 for other groups, 2 for the rest."""
    marker = item.get_closest_marker("xdist_group")
    if marker is None:
        return 2
    return 0 if marker.args[0].endswith("servers") else 1


class _Summary:
    """Says in the last lines which host trees the tests ran on, and what was left out."""

    def __init__(self) -> None:
        self.lines: dict[str, set[str]] = {"ComfyUI hosts": set(), SAMPLED: set()}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Take this process's lines; a worker hands them to the process that reports."""
        self._add({"ComfyUI hosts": hosts.used_hosts(), SAMPLED: sampling.lines()})
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["summary"] = {title: sorted(lines) for title, lines in self.lines.items()}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Take a finished worker's lines."""
        self._add(getattr(node, "workeroutput", {}).get("summary", {}))

    def _add(self, found: Mapping[str, Iterable[str]]) -> None:
        for title, lines in found.items():
            self.lines[title].update(lines)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the lines."""
        for title, lines in self.lines.items():
            if lines:
                terminalreporter.section(title)
            for line in sorted(lines):
                terminalreporter.line(line)


@pytest.fixture(scope="session")
def host_version(request: pytest.FixtureRequest) -> str:
    """The ComfyUI version that a test runs on.

    A fixture, not a bare parameter: pytest would otherwise run the first cases of all tests,
    then their second ones and so on, and the servers that they share would start many times.
    """
    return str(request.param)


@pytest.fixture(scope="session")
def pool(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator["object"]:
    """The running servers of this session (a `servers.ServerPool`)."""
    from servers import ServerPool

    servers = ServerPool(tmp_path_factory.mktemp("servers"), pytestconfig.getoption("--cuda"))
    yield servers
    servers.close()
