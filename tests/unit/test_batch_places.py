"""Where a batch's hosts are and how they are started: devices, addresses, tokens."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex.batch import cli, conducting, machine, plans, ray_settings, servers
from comfyui_ipex.batch.errors import BatchInputError
from comfyui_ipex.batch.launch import parser
from comfyui_ipex.batch.plans import ServerPlan
from comfyui_ipex.launcher.environment import Environment, TorchProbe
from comfyui_ipex.launcher.errors import SetupError
from comfyui_ipex.launcher.installation import PreparedHost
from comfyui_ipex.xpu_runtime.hardware import Hardware


def plan(name: str) -> ServerPlan:
    return ServerPlan(name, "python", "/tree", "/base", "/base/input", ("--cpu",), name)


@pytest.fixture
def two_makers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with two NVIDIA cards and one of Intel's, whose environments answer at once."""

    class Known(Environment):
        def probe(self, hardware: Hardware) -> TorchProbe:
            intel = self.folder.name.endswith("xpu")
            return TorchProbe("2.14", 0 if intel else 2, 1 if intel else 0)

    class Set(PreparedHost):
        base_folder = tmp_path

    def set_up(version: str, request: str, environ: Any) -> Any:
        made = object.__new__(Set)
        tree = type("Tree", (), {"path": tmp_path})()
        vars(made).update(environment=Known(tmp_path / "main"), base=None, tree=tree)
        return made

    monkeypatch.setattr(plans, "set_up", set_up)
    monkeypatch.setattr(plans, "detect", lambda: Hardware(nvidia=True, intel=True))
    monkeypatch.setattr(
        plans, "worker_environment", lambda tree, kind: Known(tmp_path / f"worker-{kind}")
    )


def test_each_device_has_a_host_in_its_makers_environment(two_makers: None, tmp_path: Path) -> None:
    made = plans.plan_servers("0.3.47", "cuda, xpu, cpu, cpu", ["--lowvram"])
    assert [one.name for one in made] == ["cuda:0", "cuda:1", "xpu:0", "cpu", "cpu#2"]
    pythons = [Path(one.python).parent.parent.name for one in made]
    assert pythons == ["main", "main", "worker-xpu", "main", "main"]
    assert [one.setting for one in made] == ["cuda", "cuda", "xpu:0", "cpu", "cpu"]
    assert made[1].arguments == ("--cuda-device", "1", "--lowvram")
    assert made[3].arguments == ("--cpu", "--lowvram")
    command = made[4].command(81, ["--temp-directory", "x"]).argv()
    assert command[:4] == [made[4].python, str(tmp_path / "main.py"), "--port", "81"]
    assert "--listen" not in command


def test_by_default_every_gpu_of_the_main_environment_is_used(two_makers: None) -> None:
    assert [one.name for one in plans.plan_servers("0.3.47", "", [])] == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("devices", "why"), [("gpu:0", "'gpu:0' names no device"), ("cuda:7", "cuda:7")]
)
def test_devices_that_are_not_there_are_refused(two_makers: None, devices: str, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        plans.plan_servers("0.3.47", devices, [])


def test_hosts_on_the_cpu_share_its_processors() -> None:
    found = [plan("cpu"), plan("cpu"), plan("xpu:0")]
    assert [one.threads for one in plans.share_processors(found, 8, {})] == [4, 4, 0]
    assert [one.threads for one in plans.share_processors(found, 1, {})] == [1, 1, 0]
    chosen = plans.share_processors(found, 8, {"OMP_NUM_THREADS": "3"})
    assert [one.threads for one in chosen] == [0, 0, 0]


@pytest.mark.parametrize("argument", cli.RESERVED)
def test_where_hosts_listen_and_write_cannot_be_changed(argument: str) -> None:
    for given in ([argument, "x"], [f"{argument}=x"], ["--lowvram", argument]):
        with pytest.raises(BatchInputError, match="cannot be given"):
            cli.refuse_reserved(given)
    cli.refuse_reserved(["--lowvram"])


def test_devices_of_this_machine_and_a_cluster_exclude_each_other() -> None:
    given = ["w.json", "--table", "t.csv", "--output", "o", "--address", "10.0.0.1:6379"]
    arguments, _ = parser("batch").parse_known_args([*given, "--devices", "cpu"])
    with pytest.raises(BatchInputError, match="--devices has no meaning with --address"):
        cli.run_batch(arguments, [])


def test_ray_keeps_to_the_loopback_interface_there_and_always_asks_for_a_token() -> None:
    local = ray_settings.environment("127.0.0.1", Path("/token"))
    assert local["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    wide = ray_settings.environment("10.0.0.1", Path("/token"))
    for settings in (local, wide):
        assert settings["RAY_AUTH_MODE"] == "token"
        assert settings["RAY_AUTH_TOKEN_PATH"] == "/token"
        # Else it ends hosts where other programs fill the memory.
        assert settings["RAY_memory_monitor_refresh_ms"] == "0"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in wide


def test_a_token_is_new_secret_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert ray_settings.make_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    held = path.read_text()
    assert len(held) == 64
    assert not ray_settings.make_token(path)
    assert path.read_text() == held
    assert ray_settings.check_token(path) == path


def test_tokens_that_are_none_or_that_others_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(BatchInputError, match="--token-file FILE"):
        ray_settings.check_token(None)
    with pytest.raises(BatchInputError, match="cannot be read"):
        ray_settings.check_token(path)
    path.write_text("x" * 64)
    path.chmod(0o640)
    with pytest.raises(BatchInputError, match="chmod 600"):
        ray_settings.check_token(path)
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(BatchInputError, match="holds no token"):
        ray_settings.check_token(path)


@pytest.mark.parametrize("text", ["10.0.0.1", ":6379", "a:b", "a:0", "a:70000", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BatchInputError, match="IP:PORT"):
        ray_settings.address_of(text)


def test_a_head_and_a_node_are_started_with_their_devices_and_nothing_else() -> None:
    found = [plan("xpu:0"), plan("xpu:1")]
    head = machine.command(True, "10.0.0.1:6379", "", found)
    joined = machine.command(False, "10.0.0.2", "10.0.0.1:6379", found)
    assert {"--head", "--port=6379", "--node-ip-address=10.0.0.1"} <= set(head)
    assert {"--address=10.0.0.1:6379", "--node-ip-address=10.0.0.2"} <= set(joined)
    for command in (head, joined):
        resources = next(part for part in command if part.startswith("--resources="))
        assert json.loads(resources.partition("=")[2]) == {
            "comfyui-ipex xpu:0": 1,
            "comfyui-ipex xpu:1": 1,
        }
        assert {"--num-cpus=0", "--num-gpus=0", "--block"} <= set(command)


@pytest.mark.parametrize(
    ("head", "listen", "address", "why"),
    [
        (False, "", "", "--head, or join"),
        (True, "10.0.0.1:1", "10.0.0.1:1", "--head, or join"),
        (True, "10.0.0.1", "", "IP:PORT"),
        (False, "", "10.0.0.1:6379", "--listen IP"),
        (False, "10.0.0.2:1", "10.0.0.1:6379", "--listen IP"),
        (False, "127.0.0.1", "10.0.0.1:6379", "starts it once"),
        (False, "10.0.0.2", "127.0.0.1:6379", "starts it once"),
    ],
)
def test_a_node_says_where_it_belongs(head: bool, listen: str, address: str, why: str) -> None:
    with pytest.raises(BatchInputError, match=why):
        machine.check(head, listen, address)


def test_folders_of_hosts_that_were_killed_are_removed_and_others_stay(tmp_path: Path) -> None:
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = tmp_path / f"{servers.SCRATCH}{finished.pid}-a"
    mine = tmp_path / f"{servers.SCRATCH}{os.getpid()}-b"
    for folder in (dead, mine):
        folder.mkdir()
        (folder / servers.LOG).touch()
    with (dead / servers.LOG).open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        servers._remove_stale(tmp_path)
        assert dead.exists()
    servers._remove_stale(tmp_path)
    assert not dead.exists()
    assert mine.exists()


def test_a_hosts_environment_holds_no_token(tmp_path: Path) -> None:
    inherited = {"RAY_AUTH_TOKEN": "secret", "RAY_AUTH_TOKEN_PATH": "/token", "HOME": "/root"}
    shared = plans.share_processors([plan("cpu"), plan("cpu")], 8, {})
    environment = servers._environment(inherited, shared[1])
    assert environment == {"HOME": "/root", "OMP_NUM_THREADS": "4"}


@pytest.mark.parametrize(
    ("option", "value", "folder"),
    [
        ("--table", "a/jobs.csv", "jobs-results"),
        ("--frames", "clip.mp4", "clip-results"),
        ("--frames", "a/shot/", "shot-results"),
        ("--frames", "a/shot/*.png", "shot-results"),
        ("--frames", "*.png", "frames-results"),
    ],
)
def test_results_go_to_a_folder_that_is_called_after_what_they_are_of(
    option: str, value: str, folder: str
) -> None:
    arguments, for_servers = parser("batch").parse_known_args(
        ["w.json", option, value, "--lowvram"]
    )
    assert conducting.default_output(arguments) == Path(folder)
    assert for_servers == ["--lowvram"]


@pytest.mark.parametrize(("starts", "status"), [("fail", 1), ("second", 5)])
def test_ray_is_tried_again_where_it_did_not_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    starts: str,
    status: int,
) -> None:
    program = (
        "import os, sys; tries = sys.argv[1]; open(tries, 'a').write('x');"
        f"ready = {starts == 'second'} and os.path.getsize(tries) == 2;"
        "print('Ray runtime started.' if ready else 'timed out'); sys.exit(5)"
    )
    started = [sys.executable, "-c", program, str(tmp_path / "tries")]
    monkeypatch.setattr(machine, "command", lambda *_: started)
    assert machine.serve_cluster(True, "127.0.0.1:6379", "", tmp_path / "token", []) == status
    assert (tmp_path / "tries").stat().st_size == (3 if starts == "fail" else 2)
    said = capsys.readouterr()
    assert "Ray did not start, and is tried again" in said.out
    assert ("Ready." in said.out) == (starts == "second")
    assert "Ray ended by itself" in said.err
