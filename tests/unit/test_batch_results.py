"""Results and the manifest: written whole and once, and what a second run takes for missing."""

import hashlib
import json
from pathlib import Path

import pytest
from comfyui_ipex.batch import manifest, outputs
from comfyui_ipex.batch.errors import BatchInputError, JobFailedError
from comfyui_ipex.batch.jobs import Job
from comfyui_ipex.batch.outputs import Output
from comfyui_ipex.batch.servers import _collect


def finished(folder: Path, job: Job, *made: Output) -> None:
    """Do what a batch does with a job's results."""
    with outputs.hold_folder(folder):
        staged = outputs.stage(folder, job.name, made)
        with manifest.open_manifest(folder) as record:
            row = {"job": job.name, "status": "done", "digest": job.digest}
            record.add({**row, "files": staged.files})
        staged.place()


def missing(folder: Path, *jobs: Job) -> tuple[list[str], list[str]]:
    """Names of jobs to be done, and of results in their way."""
    todo, taken = outputs.find_missing(jobs, manifest.read_manifest(folder), folder)
    return [job.name for job in todo], taken


def test_one_result_is_a_file_of_the_jobs_name_and_several_are_a_folder(tmp_path: Path) -> None:
    finished(tmp_path, Job("a", {}), Output("8", "x_00001_.PNG", b"one"))
    several = [
        Output("8", "x.png", b"1"),
        Output("9:1", "y.webp", b"2"),
        Output("8", "z.png", b"3"),
    ]
    finished(tmp_path, Job("b", {}), *several)
    assert (tmp_path / "a.png").read_bytes() == b"one"
    made = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert made == {"8-001.png": b"1", "9_1-001.webp": b"2", "8-002.png": b"3"}
    rows = manifest.read_manifest(tmp_path)
    assert rows["a"]["files"] == [
        {"name": "a.png", "node": "8", "bytes": 3, "sha256": hashlib.sha256(b"one").hexdigest()}
    ]
    assert [file["name"] for file in rows["b"]["files"]] == [
        "b/8-001.png",
        "b/9_1-001.webp",
        "b/8-002.png",
    ]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    with outputs.hold_folder(tmp_path):
        staged = outputs.stage(tmp_path, "a", [Output("8", "x.png", b"new")])
        with pytest.raises(FileExistsError, match="not overwritten"):
            staged.place()
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    assert missing(tmp_path, Job("a", {}), Job("b", {})) == (["a", "b"], ["a.png"])


def test_a_second_run_does_what_is_missing(tmp_path: Path) -> None:
    a, b, c = Job("a", {}), Job("b", {}), Job("c", {})
    assert missing(tmp_path / "none", a, b) == (["a", "b"], [])
    finished(tmp_path, a, Output("8", "x.png", b"1"))
    finished(tmp_path, b, Output("8", "x.png", b"1"))
    with manifest.open_manifest(tmp_path) as record:
        record.add({"job": "c", "status": "failed", "digest": c.digest})
    assert missing(tmp_path, a, b, c) == (["c"], [])
    # The line is written before the file takes its place: an end between the two.
    (tmp_path / "b.png").unlink()
    assert missing(tmp_path, a, b, c) == (["b", "c"], [])
    finished(tmp_path, b, Output("8", "x.png", b"1"))
    assert missing(tmp_path, a, b, c) == (["c"], [])


def test_results_of_other_jobs_or_damaged_ones_are_in_the_way(tmp_path: Path) -> None:
    finished(tmp_path, Job("a", {}), Output("8", "x.png", b"1"))
    finished(tmp_path, Job("b", {}), Output("8", "x.png", b"12"))
    finished(tmp_path, Job("c", {}), Output("8", "x.png", b"1"), Output("8", "y.png", b"1"))
    (tmp_path / "b.png").write_bytes(b"1")
    (tmp_path / "c" / "8-001.png").unlink()
    changed = Job("a", {"1": {}})
    assert missing(tmp_path, changed, Job("b", {}), Job("c", {})) == (
        ["b", "c"],
        ["a.png", "b.png", "c"],
    )


def test_a_line_that_was_cut_off_counts_as_not_written(tmp_path: Path) -> None:
    finished(tmp_path, Job("a", {}), Output("8", "x.png", b"1"))
    path = tmp_path / manifest.FILE
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"job": "b", "sta')
    assert set(manifest.read_manifest(tmp_path)) == {"a"}
    with manifest.open_manifest(tmp_path) as record:
        record.add({"job": "c"})
    assert [json.loads(line)["job"] for line in path.read_text().splitlines()] == ["a", "c"]
    path.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(BatchInputError, match=r"manifest\.jsonl, line 1, is no record"):
        manifest.read_manifest(tmp_path)


def test_two_batches_do_not_write_to_one_folder_at_once(tmp_path: Path) -> None:
    with (
        outputs.hold_folder(tmp_path),
        pytest.raises(BatchInputError, match="Another batch writes"),
        outputs.hold_folder(tmp_path),
    ):
        pass
    with outputs.hold_folder(tmp_path):
        pass


def test_drafts_of_a_batch_that_was_killed_are_removed(tmp_path: Path) -> None:
    with outputs.hold_folder(tmp_path):
        outputs.stage(tmp_path, "a", [Output("8", "x.png", b"1")])
        outputs.stage(tmp_path, "b", [Output("8", "x.png", b"1")] * 2)
    with outputs.hold_folder(tmp_path):
        staged = outputs.stage(tmp_path, "b", [Output("8", "x.png", b"1")] * 2)
        staged.place()
    assert not list((tmp_path / ".batch" / "drafts").iterdir())


def test_what_a_prompt_saved_is_collected_and_what_earlier_ones_did_is_removed(
    tmp_path: Path,
) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("old.png", "b.png", "sub/a.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    saved = {"filename": "b.png", "subfolder": "", "type": "output"}
    video = {"filename": "a.mp4", "subfolder": "sub", "type": "output"}
    preview = {"filename": "p.png", "subfolder": "", "type": "temp"}
    record = {
        "outputs": {
            "10": {"images": [saved, preview], "text": ["hello"], "animated": (True,)},
            "9": {"gifs": [video]},
        }
    }
    expected = [Output("9", "a.mp4", b"sub/a.mp4"), Output("10", "b.png", b"b.png")]
    assert _collect(record, tmp_path) == expected
    # A cached node's results are named again.
    assert _collect(record, tmp_path) == expected
    assert not (tmp_path / "old.png").exists()
    with pytest.raises(JobFailedError, match="Save Image must end the workflow"):
        _collect({"outputs": {"3": {"images": [preview]}}}, tmp_path)
    with pytest.raises(FileNotFoundError):
        _collect(record, tmp_path)
