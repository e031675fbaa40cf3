"""Benchmarks: real runs of the command on the CPU and on an emulated card, and their files."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from comfyui_ipex.benchmarks import cli, record, report, table
from comfyui_ipex.benchmarks.record import SCHEMA, Record, RecordError
from comfyui_ipex.launcher.folders import child_environment
from conftest import REPOSITORY

COMMAND = [sys.executable, str(REPOSITORY / "ipex_benchmarks.py")]


def checked(path: Path) -> dict[str, Any]:
    """The file's content, which must be what its schema says."""
    data = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(data)
    return dict(data)


def run(*arguments: str, status: int = 0) -> str:
    """What the command prints."""
    environment = {**child_environment(), "CUDA_VISIBLE_DEVICES": "", "COMFYUI_DIR": ""}
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a short run that came to its end."""
    output = tmp_path_factory.mktemp("benchmarks") / "short"
    cases = "allocate 1,matmul 512,bounded fast path a small"
    suites = "tensor,attention,sd"
    run("--device", "cpu", "--quick", "--suite", suites, "--case", cases,
        "--output", str(output))  # fmt: skip
    return output.with_suffix(".json")


def test_a_run_writes_a_file_that_its_schema_describes(finished: Path) -> None:
    data = checked(finished)
    assert data["complete"]
    results = {result["case"]: result for result in data["results"]}
    product = results["matmul 512"]
    assert product["seconds"]["median"] > 0
    assert product["passes"] == len(product["seconds"]["passes"]) == 1
    assert 0 < product["error"] < 1e-5
    assert {rate["unit"] for rate in product["rates"]} == {"flop/s", "B/s"}
    assert results["bounded fast path a small call 1x8x16x40"]["against"]["ratio"]["median"] > 0


def test_a_suite_that_cannot_begin_is_a_result_that_says_why(finished: Path) -> None:
    (failed,) = [r for r in checked(finished)["results"] if r["suite"] == "sd"]
    assert failed["status"] == "failed"
    assert "--tree" in failed["why"]


def test_the_file_names_no_folder_of_this_machine(finished: Path) -> None:
    text = finished.read_text(encoding="utf-8")
    assert str(Path.home()) not in text
    assert str(finished.parent) not in text


def test_the_page_needs_nothing_from_outside_and_shows_every_case(finished: Path) -> None:
    page = finished.with_suffix(".html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)\s*=\s*"(?!#)', page.replace('xlink:href="#', ""))
    assert "@import" not in page
    assert page.count("<svg") >= 2
    for result in checked(finished)["results"]:
        assert result["case"] in page
        assert result["case"] in finished.with_suffix(".md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run that was told to end, and whose output nobody reads any more."""
    path = tmp_path_factory.mktemp("ended") / "ended.json"
    arguments = ["--device", "cpu", "--quick", "--suite", "tensor", "--passes", "50"]
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--output", str(path.with_suffix(""))],
        env={**child_environment(), "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    deadline = time.monotonic() + 300
    while not (path.exists() and json.loads(path.read_text())["results"]):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    checked(path)  # while it runs, too
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 128 + signal.SIGTERM
    return path


def test_a_run_that_is_ended_half_way_leaves_a_valid_file_with_what_it_had(ended: Path) -> None:
    data = checked(ended)
    assert not data["complete"]
    assert data["results"]
    assert {result["status"] for result in data["results"]} == {"measured"}
    assert "interrupted" in ended.with_suffix(".md").read_text()


def test_a_run_that_is_ended_leaves_its_files_and_no_others(ended: Path) -> None:
    names = sorted(path.name for path in ended.parent.iterdir())
    assert names == ["ended.html", "ended.json", "ended.md"]


def test_an_interrupt_just_after_a_file_took_its_place_stays_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def replaced_and_interrupted(*arguments: Any) -> None:
        replace(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replaced_and_interrupted)
    with pytest.raises(KeyboardInterrupt):
        record.write_at_once(tmp_path / "written.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["written.json"]


def test_speed_on_an_emulated_card_is_refused_and_memory_and_counts_are_not(
    tmp_path: Path,
) -> None:
    output = tmp_path / "emulated"
    run("--emulate", "a770", "--quick", "--suite", "tensor", "--case", "matmul 512,allocate 1",
        "--output", str(output))  # fmt: skip
    data = checked(output.with_suffix(".json"))
    assert [conditions["emulated"] for conditions in data["conditions"]] == [True]
    for result in data["results"]:
        assert result["status"] == "refused"
        assert "emulated" in result["why"]
        assert result["seconds"] is None
        assert result["rates"] == []
    product, allocation = data["results"]
    assert product["peak_bytes"] == 512 * 512 * 4
    assert product["counts"]["kernels"] > 0
    assert allocation["counts"]["allocations"] == 1


def test_files_that_are_none_are_refused_with_a_reason(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"format": 99}')
    assert "format 99" in run("compare", str(other), str(other), status=2)
    other.write_text("[]")
    with pytest.raises(RecordError, match="no file of ipex-benchmarks"):
        record.load(other)


def test_a_record_survives_being_written_and_read(finished: Path, tmp_path: Path) -> None:
    loaded = record.load(finished)
    copy = tmp_path / "copy.json"
    loaded.save(copy)
    assert copy.read_bytes() == finished.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["copy.json"]


def test_without_matplotlib_there_is_markdown_and_no_page(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    written = report.write(record.load(finished), tmp_path / "bare.json")
    assert [path.name for path in written] == ["bare.md"]


def test_a_failed_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.json"
    Record("before", quick=True, passes=1).save(path)
    before = path.read_bytes()
    monkeypatch.setattr(record.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Record("after", quick=True, passes=1).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]


def test_names_that_do_not_exist_are_errors_that_list_what_does() -> None:
    with pytest.raises(ValueError, match=r"no suite nonsense.*attention, batch, conv"):
        table.named(["nonsense"])
    with pytest.raises(ValueError, match="no dtype fp7"):
        cli.plan_of(cli.parser().parse_args(["--dtype", "fp7"]))
    with pytest.raises(ValueError, match="no device gpu"):
        cli.plan_of(cli.parser().parse_args(["--device", "cpu,gpu"]))
    with pytest.raises(ValueError, match="--passes is 0"):
        cli.plan_of(cli.parser().parse_args(["--device", "cpu", "--passes", "0"]))


def test_a_run_in_which_nothing_or_no_case_could_be_measured_has_failed(tmp_path: Path) -> None:
    wanted = ["--device", "cpu", "--quick", "--output", str(tmp_path / "none")]
    assert "Nothing was measured" in run(*wanted, "--suite", "tensor", "--case", "no", status=2)
    run(*wanted, "--suite", "sd", status=1)


def test_every_suite_of_the_table_has_cases_with_names_that_the_command_line_can_say() -> None:
    for suite in table.SUITES:
        cases = table.cases_of(suite)
        names = [case.name for case in cases]
        assert len(set(names)) == len(names)
        assert not [name for name in names if "," in name]
        assert any(case.quick for case in cases)
