"""What the timers run: backup, cleanup and monitoring, each as the program that units start."""

import contextlib
import http.server
import json
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

PROGRAMS = REPOSITORY / "nix" / "service"

STATS = {
    "/system_stats": {
        "system": {},
        "devices": [
            {"name": 'xpu:0 "Arc"', "type": "xpu", "index": 0, "vram_total": 16, "vram_free": 9}
        ],
    },
    "/prompt": {"exec_info": {"queue_remaining": 2}},
}


def run(name: str, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run one of the programs as a unit does."""
    return subprocess.run(
        [sys.executable, "-I", "-B", str(PROGRAMS / f"{name}.py"), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def aged(path: Path, days: float) -> Path:
    """The file, made if need be, as if it was last changed so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    moment = time.time() - days * 86400
    os.utime(path, (moment, moment))
    return path


def test_cleaning_deletes_old_files_and_spares_everything_else(tmp_path: Path) -> None:
    old = aged(tmp_path / "temp" / "run" / "old.png", 31)
    new = aged(tmp_path / "temp" / "new.png", 29)
    kept = aged(tmp_path / "output" / "old.png", 300)
    (tmp_path / "temp" / "mine").mkdir()
    (tmp_path / "temp" / "link").symlink_to(tmp_path / "output")
    (tmp_path / "linked").symlink_to(tmp_path / "output")
    done = run("cleanup", "--days=30", tmp_path, "temp", "linked", "absent")
    assert done.returncode == 0, done.stderr
    assert "temp: 1 files deleted" in done.stdout
    assert not old.exists() and not old.parent.exists()
    assert new.exists() and kept.exists() and (tmp_path / "temp" / "mine").exists()


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """A ComfyUI's folder with a database that is being written to."""
    folder = tmp_path / "arc"
    (folder / "user" / "default" / "workflows").mkdir(parents=True)
    (folder / "user" / "default" / "workflows" / "one.json").write_text("{}")
    (folder / "models").mkdir()
    (folder / "models" / "large.safetensors").touch()
    with contextlib.closing(sqlite3.connect(folder / "user" / "comfyui.db")) as database:
        database.execute("create table seen (number integer)")
        database.execute("insert into seen values (1)")
        database.commit()
        database.execute("insert into seen values (2)")  # not committed
        yield folder


def test_a_backup_holds_user_data_and_a_consistent_database(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    target.mkdir()
    done = run("backup", "--keep=2", f"--target={target}", base, "user")
    assert done.returncode == 0, done.stderr
    (archive,) = target.iterdir()
    with tarfile.open(archive) as tar:
        assert set(tar.getnames()) == {"user/comfyui.db", "user/default/workflows/one.json"}
        tar.extractall(tmp_path / "restored", filter="data")
    with contextlib.closing(sqlite3.connect(tmp_path / "restored/user/comfyui.db")) as database:
        assert database.execute("select number from seen").fetchall() == [(1,)]


def test_only_the_newest_backups_of_this_instance_are_kept(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    target.mkdir()
    others = ("arc-2-20250101T000000", "geforce-20250101T000000")
    for name in ("arc-20250101T000000", "arc-20250102T000000", *others):
        (target / f"{name}.tar.gz").touch()
    assert run("backup", "--keep=2", f"--target={target}", base, "user").returncode == 0
    names = sorted(path.name for path in target.iterdir())
    assert len(names) == 4
    assert {"arc-20250102T000000.tar.gz", *(f"{name}.tar.gz" for name in others)} < set(names)


def test_a_backup_that_fails_leaves_the_old_ones_and_no_part(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    target.mkdir()
    old = target / "arc-20250101T000000.tar.gz"
    old.touch()
    (base / "user" / "broken.db").write_bytes(b"SQLite format 3\0 and nothing more")
    done = run("backup", "--keep=1", f"--target={target}", base, "user")
    assert done.returncode == 1
    assert "was not saved" in done.stderr
    assert list(target.iterdir()) == [old]


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(STATS[self.path]).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers as ComfyUI does."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_state_is_written_as_node_exporter_reads_it(url: str, tmp_path: Path) -> None:
    done = run(
        "monitor",
        "--instance=comfyui-ipex-arc",
        f"--url={url}",
        f"--textfiles={tmp_path}",
        RUNTIME_DIRECTORY=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    file = tmp_path / "comfyui-ipex-arc.prom"
    assert file.stat().st_mode & 0o777 == 0o644
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    card = r'instance_name="comfyui-ipex-arc",device="xpu:0 \"Arc\"",index="0"'
    assert lines == [
        'comfyui_up{instance_name="comfyui-ipex-arc"} 1',
        'comfyui_failures{instance_name="comfyui-ipex-arc"} 0',
        'comfyui_queue_remaining{instance_name="comfyui-ipex-arc"} 2',
        f"comfyui_device_memory_bytes{{{card}}} 16",
        f"comfyui_device_memory_free_bytes{{{card}}} 9",
    ]
    for line in file.read_text().splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+\{.*\} \d+", line)


def test_a_server_is_restarted_after_failures_in_a_row_only(url: str, tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    asked = [nobody, nobody, url, nobody, nobody, nobody, nobody]
    statuses = [
        run(
            "monitor",
            "--instance=arc",
            f"--url={address}",
            f"--textfiles={tmp_path}",
            "--restart-after=3",
            RUNTIME_DIRECTORY=str(tmp_path),
        ).returncode
        for address in asked
    ]
    assert statuses == [0, 0, 0, 0, 0, 1, 0]
    assert 'comfyui_up{instance_name="arc"} 0' in (tmp_path / "arc.prom").read_text()
