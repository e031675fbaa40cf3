"""A whole batch with toy hosts: what it writes, says and returns, and what it refuses first."""

import argparse
import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex.batch import cli, conducting, manifest
from comfyui_ipex.batch.errors import BatchInputError, JobFailedError, ServerGoneError
from comfyui_ipex.batch.launch import parser
from comfyui_ipex.batch.outputs import Output
from comfyui_ipex.batch.servers import SentFile
from PIL import Image

WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    "2": {"class_type": "KSampler", "inputs": {"seed": 1, "image": ["1", 0]}},
}


class Toy:
    """A host that answers with a picture of the frame or the seed that it was sent."""

    def __init__(self, name: str, refuses: Sequence[int] = (), gone: bool = False) -> None:
        self.name = name
        self._refuses = refuses
        self._gone = gone

    def start(self) -> None:
        if self._gone:
            raise ServerGoneError("no such card")

    def run_prompt(
        self, prompt: Mapping[str, Any], files: Sequence[SentFile], timeout: float
    ) -> list[Output]:
        seed = prompt["2"]["inputs"]["seed"]
        if seed in self._refuses:
            raise JobFailedError(f"{seed} is refused")
        return [Output("2", "x.png", files[0].data if files else str(seed).encode())]

    def stop(self) -> None:
        """Nothing runs."""


Batch = Callable[..., int]


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Runs a batch with the options and hosts that it is given."""
    (tmp_path / "w.json").write_text(json.dumps(WORKFLOW))
    monkeypatch.chdir(tmp_path)

    def started(*options: str, hosts: Sequence[Toy] = (Toy("one"), Toy("two"))) -> int:
        def members(
            arguments: argparse.Namespace, for_servers: Sequence[str], stack: contextlib.ExitStack
        ) -> tuple[Callable[[], Sequence[Toy]], float]:
            new = [list(hosts)]
            return (lambda: new.pop() if new else []), 0.0

        monkeypatch.setattr(conducting, "_members", members)
        arguments, _ = parser("batch").parse_known_args(["w.json", *options])
        return cli.run_batch(arguments, [])

    return started


def statuses(folder: Path) -> dict[str, str]:
    return {name: row["status"] for name, row in manifest.read_manifest(folder).items()}


def test_what_failed_is_told_and_done_by_the_next_run(
    batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs.csv").write_text("job,2.seed\na,1\nb,2\nc,3\n")
    sick = [Toy("one", refuses=[2]), Toy("two", refuses=[2])]
    assert batch("--table", "jobs.csv", hosts=sick) == 1
    said = capsys.readouterr()
    assert "2 done, 1 failed, 0 left undone" in said.out
    assert "b failed on " in said.err
    folder = tmp_path / "jobs-results"
    assert statuses(folder) == {"a": "done", "b": "failed", "c": "done"}
    row = manifest.read_manifest(folder)["b"]
    assert sorted(row["errors"]) == [["one", "2 is refused"], ["two", "2 is refused"]]
    assert batch("--table", "jobs.csv") == 0
    assert "3 jobs, of which 1 are to be done" in capsys.readouterr().out
    assert {path.name: path.read_text() for path in folder.glob("*.png")} == {
        "a.png": "1",
        "b.png": "2",
        "c.png": "3",
    }
    lines = (folder / manifest.FILE).read_text().splitlines()
    assert sorted(json.loads(line)["job"] for line in lines) == ["a", "b", "b", "c"]


def test_without_any_host_jobs_are_undone_not_failed(
    batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs.csv").write_text("2.seed\n1\n2\n")
    assert batch("--table", "jobs.csv", hosts=[Toy("one", gone=True)]) == 1
    said = capsys.readouterr()
    assert "0 done, 0 failed, 2 left undone" in said.out
    assert "one is left out: no such card" in said.err
    assert "No server is left" in said.err
    assert statuses(tmp_path / "jobs-results") == {}


def test_a_dry_run_starts_nothing(
    batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs.csv").write_text("job,2.seed\na,1\nb,2\n")
    assert batch("--table", "jobs.csv", "--dry-run", "--output", "o", hosts=[]) == 0
    assert "   a\n   b\n" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "o").iterdir()] == [".batch"]


def test_a_changed_table_does_not_overwrite_what_the_old_one_made(
    batch: Batch, tmp_path: Path
) -> None:
    (tmp_path / "jobs.csv").write_text("job,2.seed\na,1\n")
    assert batch("--table", "jobs.csv") == 0
    (tmp_path / "jobs.csv").write_text("job,2.seed\na,9\n")
    with pytest.raises(BatchInputError, match=r"holds 1 results that other jobs made.*a\.png"):
        batch("--table", "jobs.csv")
    assert (tmp_path / "jobs-results" / "a.png").read_text() == "1"


def moving(path: Path) -> list[bytes]:
    """Write an animated picture of three frames."""
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (10, 120, 240)]
    frames[0].save(path, append_images=frames[1:], save_all=True, lossless=True, duration=40)
    return [frame.tobytes() for frame in frames]


def test_frames_come_back_in_order_and_as_a_video(batch: Batch, tmp_path: Path) -> None:
    frames = moving(tmp_path / "clip.webp")
    assert batch("--frames", "clip.webp", "--video", "clip.mp4") == 0
    made = sorted((tmp_path / "clip-results").glob("*.png"))
    assert [path.name for path in made] == ["000001.png", "000002.png", "000003.png"]
    assert [Image.open(io.BytesIO(path.read_bytes())).tobytes() for path in made] == frames
    assert (tmp_path / "clip.mp4").stat().st_size > 0
    assert not list((tmp_path / "clip-results" / ".batch").glob("frames-*"))
    assert batch("--frames", "clip.webp", "--video", "clip.mp4", hosts=[]) == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--table", "jobs.csv", "--video", "v.mp4"], "goes with --frames"),
        (["--frames", "f.png", "--video", "v.mp4"], "--rate FPS"),
        (["--frames", "f.png", "--video", "v.txt", "--rate", "9"], r"a video is a file \.mp4"),
        (["--frames", "f.png", "--video", "no/v.mp4", "--rate", "9"], "a folder that exists"),
        (["--frames", "f.png", "--video", "old.mp4", "--rate", "9"], "not overwritten"),
        (["--frames", "f.png", "--rate", "-1", "--video", "v.mp4"], "--rate FPS"),
        (["--table", "jobs.csv", "--retries", "-1"], "--retries is 0 or more"),
        (["--table", "jobs.csv", "--timeout", "0"], "--timeout more than 0"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_before_anything_starts(
    batch: Batch, tmp_path: Path, options: list[str], why: str
) -> None:
    (tmp_path / "jobs.csv").write_text("job,2.seed\na,1\n")
    (tmp_path / "old.mp4").touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "f.png")
    with pytest.raises(BatchInputError, match=why):
        batch(*options)
