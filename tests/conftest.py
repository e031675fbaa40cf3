"""Make the repository importable as `comfyui_ipex`, and say at the end which hosts ran."""

import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# As a package, but without running its __init__.py: that one needs the host's process.
_package = types.ModuleType("comfyui_ipex")
_package.__path__ = [str(REPOSITORY)]
sys.modules.setdefault("comfyui_ipex", _package)


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
    config.pluginmanager.register(_HostSummary(), "host-summary")
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
        from hosts import VERSIONS

        ends = metafunc.definition.get_closest_marker("oldest_and_newest") is not None
        by_default = (VERSIONS[0], VERSIONS[-1]) if ends else VERSIONS
        chosen = metafunc.config.getoption("--host") or by_default
        metafunc.parametrize("host_version", chosen, indirect=True, scope="session")
    if "workflow_device" in metafunc.fixturenames:
        real = ["cuda:0"] if metafunc.config.getoption("--cuda") else []
        metafunc.parametrize("workflow_device", ["cpu", "xpu", *real])


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep in one worker what shares servers, and what changes torch in its own process.

    Host tests without a server share what their module has asked a process of the host.
    """
    for item in items:
        if "xpu_emulator" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("emulator"))
            continue
        if item.path.parent.name == "nix":
            item.add_marker(pytest.mark.xdist_group("nix"))
            continue
        if item.path.parent.name == "patches":
            shared = "servers" if "pool" in item.fixturenames else item.path.stem
            item.add_marker(pytest.mark.xdist_group(f"patches {shared}"))
            continue
        callspec = getattr(item, "callspec", None)
        if callspec is not None and "host_version" in callspec.params:
            shared = "servers" if "pool" in item.fixturenames else item.path.stem
            group = f"{callspec.params['host_version']} {shared}"
            item.add_marker(pytest.mark.xdist_group(group))


class _HostSummary:
    """Says in the last lines which host trees the tests ran on, in whichever process."""

    def __init__(self) -> None:
        self.lines: set[str] = set()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Take this process's hosts; a worker hands them to the process that reports."""
        from hosts import used_hosts

        self.lines.update(used_hosts())
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["hosts"] = sorted(self.lines)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Take a finished worker's hosts."""
        self.lines.update(getattr(node, "workeroutput", {}).get("hosts", []))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the lines."""
        if self.lines:
            terminalreporter.section("ComfyUI hosts")
            for line in sorted(self.lines):
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
