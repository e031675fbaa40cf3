"""Benchmarks: a bench process that dies, hangs or breaks off takes nothing else along."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from comfyui_ipex.benchmarks import bench_process, conductor, record, table
from comfyui_ipex.benchmarks.bench_process import SIGNALS, BenchProcess, Interruption
from comfyui_ipex.benchmarks.conductor import BenchPlan, Conductor
from comfyui_ipex.benchmarks.measuring import BenchRequest
from comfyui_ipex.benchmarks.record import Record
from comfyui_ipex.benchmarks.result import MEASURED, CaseResult, Timing, as_json
from conftest import REPOSITORY

BEGINS = f"""
CONDUCTOR = {os.getpid()}
import json, os, signal, sys, time
print(json.dumps({{"begin": ["tensor", "add 1 M", "cpu", "fp32"]}}), flush=True)
"""


SAMPLES = as_json(
    CaseResult("tensor", "add 1 M", "cpu", "fp32", "", "it", MEASURED, seconds=Timing.of([1.0] * 6))
)

TOLD = f"print({json.dumps({'result': SAMPLES})!r}, flush=True)"

# A conductor that waits for a bench process, which measures for a long time.
CONDUCTS = """
import sys, time, types
package = types.ModuleType("comfyui_ipex")
package.__path__ = [sys.argv[1]]
sys.modules["comfyui_ipex"] = package
from comfyui_ipex.benchmarks.bench_process import BenchProcess, Interruption
command = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
with BenchProcess(command, None, Interruption()) as process:
    sys.stdout.write(process.messages.get())
    sys.stdout.flush()
    time.sleep(600)
"""

MEASURES = """
import atexit, json, os, sys, time, types
package = types.ModuleType("comfyui_ipex")
package.__path__ = [sys.argv[1]]
sys.modules["comfyui_ipex"] = package
from comfyui_ipex.benchmarks import measuring
def measure(request, tell):
    tell(os.getpid())
    time.sleep(600)
measuring.measure = measure
atexit.register(open, sys.argv[2], "w")
sys.exit(measuring.main(measuring.BenchRequest("tensor", "cpu", (), (), True, None).text()))
"""


def gone(pid: int, within: float = 30.0) -> bool:
    """Whether a process ends in that time. One that nobody waits for is no more than a number."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Signals as in a terminal: where tests run in the background, they may be ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Silent:
    """Shows nothing."""

    def begins(self, what: Sequence[str]) -> None:
        """Nothing."""

    def found(self, result: CaseResult) -> None:
        """Nothing."""


def outcome(
    program: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: Interruption | None = None,
) -> Record:
    """The record of a run whose only bench process is `program`."""
    monkeypatch.setattr(
        conductor, "command", lambda request, emulate: [sys.executable, "-c", BEGINS + program]
    )
    kept = Record("a test", quick=True, passes=1)
    path = tmp_path / "kept.json"
    with interruption or Interruption() as listening:
        plan = BenchPlan(table.named(["tensor"]), ("cpu",))
        Conductor(plan, kept, path, Silent(), listening).measure_all()
    return record.load(path)


def test_a_process_that_dies_leaves_its_case_as_a_failure_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = 'sys.stderr.write("the driver went away\\n"); sys.stderr.flush(); os._exit(3)'
    kept = outcome(program, tmp_path, monkeypatch)
    (failed,) = kept.results
    assert (failed.case, failed.status) == ("add 1 M", "failed")
    assert failed.why == "The bench process ended with status 3: the driver went away"
    assert kept.complete


def test_where_a_process_dies_in_a_case_another_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[BenchRequest] = []
    end = json.dumps({"end": True})

    def command(request: BenchRequest, _emulate: str) -> list[str]:
        requests.append(BenchRequest.of(request.text()))
        program = BEGINS + "os._exit(3)" if request.after is None else f"{TOLD}\nprint({end!r})"
        return [sys.executable, "-c", program.replace("add 1 M", f"case {len(requests)}")]

    monkeypatch.setattr(conductor, "command", command)
    kept = Record("a test", quick=True, passes=1)
    plan = BenchPlan(table.named(["tensor"]), ("cpu",))
    Conductor(plan, kept, tmp_path / "kept.json", Silent()).measure_all()
    assert [(one.case, one.status) for one in kept.results] == [
        ("case 1", "failed"),
        ("case 2", "measured"),
    ]
    assert [request.after for request in requests] == [None, ("case 1", "fp32")]
    assert kept.complete


def test_on_a_lost_card_not_every_case_costs_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    program = f'open({str(started)!r}, "a").write("x"); os._exit(3)'
    (failed,) = outcome(program, tmp_path, monkeypatch).results
    assert failed.why == "The bench process ended with status 3: "
    assert len(started.read_text()) == conductor.MOST_PROCESSES


def test_half_a_line_of_a_killed_process_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
sys.stdout.write('{"result": {"suite": "ten'); sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)"""
    (failed,) = outcome(program, tmp_path, monkeypatch).results
    assert failed.why.startswith("The bench process ended with status -9")


def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "SILENT_S", 1.0)
    (failed,) = outcome("time.sleep(600)", tmp_path, monkeypatch).results
    assert "told nothing for 1 s" in failed.why


def test_a_process_that_ends_before_it_is_done_is_a_failure_whatever_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (failed,) = outcome("os._exit(0)", tmp_path, monkeypatch).results
    assert failed.why.startswith("The bench process ended with status 0")


def test_a_process_that_is_done_and_cleans_up_for_ever_is_killed_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_process, "CLEAN_UP_S", 0.5)
    said = json.dumps({"end": True})
    program = f"{TOLD}\nprint({said!r}, flush=True)\nos.close(1)\ntime.sleep(600)"
    kept = outcome(program, tmp_path, monkeypatch)
    assert [(one.case, one.status) for one in kept.results] == [("add 1 M", "measured")]
    assert kept.complete


def test_a_process_that_dies_between_two_cases_spoils_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, lost = outcome(f"{TOLD}\nos._exit(3)", tmp_path, monkeypatch).results
    assert (whole.case, whole.status, whole.why) == ("add 1 M", "measured", "")
    assert (lost.case, lost.status) == ("(all)", "failed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_result_that_is_on_its_way_when_the_run_is_ended_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    program = f"""
def end(number, frame):
    {TOLD}
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
os.kill(CONDUCTOR, {int(number)})
time.sleep(60)"""
    interruption = Interruption()
    before = signal.getsignal(number)
    kept = outcome(program, tmp_path, monkeypatch, interruption)
    assert [(one.case, one.status, one.why) for one in kept.results] == [
        ("add 1 M", "measured", "")
    ]
    assert not kept.complete
    assert interruption.number == number
    assert signal.getsignal(number) == before


def test_no_process_is_started_once_the_run_is_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interruption = Interruption()
    interruption.number = signal.SIGTERM
    monkeypatch.setattr(conductor, "BenchProcess", None)
    kept = outcome("", tmp_path, monkeypatch, interruption)
    assert (kept.results, kept.complete) == ([], False)
    assert kept.finished


def test_an_interrupt_while_a_process_is_being_started_ends_that_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[BenchProcess] = []

    def interrupted(*arguments: Any) -> BenchProcess:
        started.append(BenchProcess(*arguments))
        os.kill(os.getpid(), signal.SIGINT)
        return started[0]

    monkeypatch.setattr(conductor, "BenchProcess", interrupted)
    kept = outcome("time.sleep(600)", tmp_path, monkeypatch)
    assert (kept.results, kept.complete) == ([], False)
    assert started[0].status == -signal.SIGTERM


def test_pressing_ctrl_c_again_ends_a_process_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
signal.signal(signal.SIGTERM, lambda *_: os.kill(CONDUCTOR, signal.SIGINT))
os.kill(CONDUCTOR, signal.SIGINT)
while True:
    time.sleep(600)"""
    began = time.monotonic()
    kept = outcome(program, tmp_path, monkeypatch)
    assert (kept.results, kept.complete) == ([], False)
    assert time.monotonic() - began < bench_process.END_S


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interruption.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_in_a_terminal_reaches_the_conductor_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A terminal signals the group in its foreground, which a process of another session is not in.
    program = 'sys.stderr.write(f"{os.getsid(0) == os.getpid()}"); os._exit(3)'
    (failed,) = outcome(program, tmp_path, monkeypatch).results
    assert failed.why.endswith("True")


def test_what_a_killed_process_had_started_ends_with_it(tmp_path: Path) -> None:
    left = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    program = f"{left}; import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with BenchProcess([sys.executable, "-c", program], dict(os.environ), Interruption()) as ended:
        pid = int(ended.messages.get(timeout=60) or 0)
    assert ended.status == -signal.SIGKILL
    assert gone(pid)


def test_a_bench_process_ends_in_order_when_its_conductor_was_killed(tmp_path: Path) -> None:
    cleaned = tmp_path / "cleaned"
    measures = MEASURES.replace("sys.argv[2]", repr(str(cleaned)))
    command = [sys.executable, "-c", CONDUCTS, str(REPOSITORY), measures]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert not gone(pid, 0.2)
        process.kill()
    assert gone(pid)
    assert cleaned.exists()


def test_passes_of_all_suites_lie_apart() -> None:
    plan = BenchPlan(table.named(["tensor", "conv"]), ("cpu", "cuda:0"), passes=2)
    order = [(request.suite, request.device) for request in plan.requests()]
    assert order[:4] == order[4:]
    assert len(set(order[:4])) == 4
