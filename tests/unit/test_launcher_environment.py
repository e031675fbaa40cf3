"""Set-up resumes, repeats nothing, falls back to the default index and explains failures."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from comfyui_ipex.launcher import console, environment
from comfyui_ipex.launcher.environment import Environment
from comfyui_ipex.launcher.errors import FALLBACK_REMEDY, SetupError, remedy_for
from comfyui_ipex.xpu_runtime.hardware import Hardware

NO_GPU = Hardware(nvidia=False, intel=False)
INTEL = Hardware(nvidia=False, intel=True)


class Commands:
    """Stands in for `run`: keeps what would be run, and fails where it is told to."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.failing: str | None = None
        self.printed = '{"torch": "2.14.1", "cuda": 0, "xpu": 0}'

    def __call__(self, what: str, command: Sequence[str], **_: object) -> str:
        self.ran.append(list(command))
        if self.failing is not None and self.failing in command:
            raise SetupError(what, why="dns error", command=command)
        if "venv" in command:
            Path(command[-1], "bin").mkdir(parents=True)
            Path(command[-1], "bin", "python").touch()
        return self.printed


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """No command is really run."""
    stand_in = Commands()
    monkeypatch.setattr(environment, "run_command", stand_in)
    return stand_in


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A host that needs something."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "requirements.txt").write_text("torch\naiohttp\n")
    return folder


def made(folder: Path) -> Environment:
    """A new look at the environment in `folder`, as the next start takes it."""
    fresh = Environment(folder / ".venv")
    fresh.create()
    return fresh


def test_a_second_start_runs_no_command(ran: Commands, tmp_path: Path, tree: Path) -> None:
    first = made(tmp_path)
    first.install_host(tree, "default")
    first.probe(NO_GPU)
    ran.ran.clear()
    second = made(tmp_path)
    second.install_host(tree, "default")
    assert second.probe(NO_GPU).devices == ["cpu"]
    assert ran.ran == []


def test_changed_requirements_are_installed(ran: Commands, tmp_path: Path, tree: Path) -> None:
    made(tmp_path).install_host(tree, "default")
    ran.ran.clear()
    (tree / "requirements.txt").write_text("torch\naiohttp\nblake3\n")
    made(tmp_path).install_host(tree, "default")
    assert len(ran.ran) == 1


def test_an_interrupted_step_is_repeated_and_finished_ones_are_not(
    ran: Commands, tmp_path: Path, tree: Path
) -> None:
    interrupted = made(tmp_path)
    ran.failing = "pip"
    with pytest.raises(SetupError):
        interrupted.install_host(tree, "default")
    ran.failing = None
    ran.ran.clear()
    made(tmp_path).install_host(tree, "default")
    assert len(ran.ran) == 1
    assert "-r" in ran.ran[0]


def test_the_default_index_serves_when_pytorchs_cannot_be_reached(
    ran: Commands, tmp_path: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran.failing = "--torch-backend"
    made(tmp_path).install_host(tree, "xpu")
    assert "PyTorch's xpu index cannot be used: dns error" in capsys.readouterr().err
    assert "--torch-backend" not in ran.ran[-1]
    ran.ran.clear()
    made(tmp_path).install_host(tree, "xpu")
    assert ran.ran == [], "the index is tried again on every start"


def test_pytorchs_index_is_used_where_it_can_be_reached(
    ran: Commands, tmp_path: Path, tree: Path
) -> None:
    made(tmp_path).install_host(tree, "xpu")
    command = ran.ran[-1]
    assert command[command.index("--torch-backend") + 1] == "xpu"


def test_the_extensions_requirements_leave_torch_and_the_hosts_packages_alone(
    ran: Commands, tmp_path: Path, tree: Path
) -> None:
    made(tmp_path).install_extension(tree)
    command = ran.ran[-1]
    assert command[command.index("--override") + 1] == str(environment.TORCH_SET)
    listed = [command[index + 1] for index, word in enumerate(command) if word == "-r"]
    assert listed == [str(environment.EXTENSION_REQUIREMENTS), str(tree / "requirements.txt")]
    assert "--upgrade" not in command


def test_the_extensions_requirements_are_installed_once_and_when_they_change(
    ran: Commands, tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "requirements.txt"
    own.write_text("a-package==1\n")
    monkeypatch.setattr(environment, "EXTENSION_REQUIREMENTS", own)
    made(tmp_path).install_extension(tree)
    ran.ran.clear()
    made(tmp_path).install_extension(tree)
    assert ran.ran == []
    own.write_text("a-package==2\n")
    made(tmp_path).install_extension(tree)
    assert len(ran.ran) == 1


def test_an_answer_that_misses_a_gpu_is_asked_for_again(ran: Commands, tmp_path: Path) -> None:
    fresh = made(tmp_path)
    assert fresh.probe(INTEL).devices == ["cpu"]
    ran.printed = '{"torch": "2.14.1", "cuda": 0, "xpu": 2}'
    assert fresh.probe(INTEL).devices == ["xpu:0", "xpu:1", "cpu"]
    ran.ran.clear()
    assert made(tmp_path).probe(INTEL).xpu == 2
    assert ran.ran == []


def test_a_failed_command_is_named_with_its_words_and_a_remedy() -> None:
    program = "import sys; print('OSError: No space left on device'); sys.exit(3)"
    with pytest.raises(SetupError) as caught:
        console.run_command("Unpacking", [sys.executable, "-c", program])
    text = str(caught.value)
    assert "Unpacking failed (exit status 3)." in text
    assert "No space left on device" in text
    assert "Free at least 8 GB" in text
    assert sys.executable in text
    assert "resumes here" in text


def test_a_missing_program_is_named() -> None:
    with pytest.raises(SetupError, match="'no-such-program' is not installed"):
        console.run_command("Fetching", ["no-such-program"])


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("The virtual environment was not created: ensurepip is not available", "python3-venv"),
        ("fatal: Could not resolve host: github.com", "network"),
        ("cause: dns error", "network"),
        ("error: No solution found when resolving dependencies", "Python 3.10 to 3.13"),
        ("something else", FALLBACK_REMEDY),
    ],
)
def test_remedies(output: str, remedy: str) -> None:
    assert remedy in remedy_for(output)
