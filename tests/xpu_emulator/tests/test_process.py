"""Fresh processes: the command line, and when installing is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from xpu_emulator.pytest_plugin import ProcessResult, child_environment

Run = Callable[..., ProcessResult]


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_program_gets_its_cards(emulated_process: Run, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 3\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import importlib.util, sys\n"
        "assert 'torch' not in sys.modules\n"
        "importlib.util.find_spec('torch')\n"  # as ComfyUI does before it imports it
        "import beside, torch\n"
        "assert __name__ == '__main__' and sys.argv[1:] == ['--listen', '-x']\n"
        "total = torch.full((2,), beside.VALUE, device='xpu:1').sum().item()\n"
        "properties = torch.xpu.get_device_properties(1)\n"
        "print(torch.xpu.device_count(), total, properties.total_memory, properties.has_fp64)\n"
    )
    result = emulated_process(
        ["--device", "a380", "--count", "2", "--memory", "2GiB", "--fp64"],
        [str(program), "--listen", "-x"],
    )
    assert result.stdout.split() == ["2", "6", str(2 << 30), "True"], result.stderr
    assert result.returncode == 0
    assert result.report["devices"][1]["counters"]["items"] == 1


def test_modules_and_exit_statuses(emulated_process: Run, tmp_path: Path) -> None:
    result = emulated_process([], ["-m", "json.tool", "--help"])
    assert "usage" in result.stdout and result.returncode == 0
    assert result.report == {}  # torch was never imported
    assert emulated_process([], ["-c", "import sys; sys.exit(7)"]).returncode == 7


def test_options_reach_the_cards(emulated_process: Run) -> None:
    code = (
        "import torch\n"
        "def fails(call):\n"
        "    try:\n"
        "        call()\n"
        "    except Exception as error:\n"
        "        return type(error).__name__ + ' ' + str(error)[:90]\n"
        "print(fails(lambda: torch.empty(1, device='xpu')))\n"
        "print(fails(lambda: torch.empty(9 << 20, device='xpu')))\n"
        "print(fails(lambda: torch.ones(2, device='xpu').sort()))\n"
        "print(fails(torch.xpu.mem_get_info))\n"
    )
    options = ["--device", "b580", "--device", "a770", "--fail-alloc", "1", "--max-alloc", "8MiB"]
    options += ["--ur-errors", "--deny", "sort", "--mem-get-info", "raises"]
    lines = emulated_process(options, ["-c", code]).stdout.splitlines()
    assert "UR_RESULT_ERROR_OUT_OF_DEVICE" in lines[0] and "error: 39" in lines[1]
    assert lines[2].startswith("NotImplementedError Could not run 'aten::sort")
    assert "doesn't support querying" in lines[3]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--count", "5"], "At most 4 devices"),
        (["--memory", "2GB"], "invalid parse_size value"),
        (["--device", "h100"], "invalid choice"),
        ([], "name a program to run"),
    ],
)
def test_a_wrong_command_line_is_explained(
    emulated_process: Run, options: list[str], complaint: str
) -> None:
    program = [] if complaint.startswith("name") else ["-c", "pass"]
    result = emulated_process(options, program)
    assert result.returncode == 2 and complaint in result.stderr


def test_the_runtimes_variables_are_obeyed(emulated_process: Run) -> None:
    code = "import torch; print(torch.xpu.device_count(), torch.xpu.get_device_name(0))"
    options = ["--device", "a770", "--device", "b580"]
    result = emulated_process(options, ["-c", code], env={"ZE_AFFINITY_MASK": "1"})
    assert result.stdout == "1 Intel(R) Arc(TM) B580 Graphics\n", result.stderr


def test_a_server_can_be_watched_and_stopped(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    code = (
        "import time, torch\n"
        "torch.ones(1, device='xpu')\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "xpu_emulator", "--report", str(report), "--", "-c", code]
    with subprocess.Popen(
        command, env=child_environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None and server.stdout.readline() == "up\n"
        server.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 60
        while not report.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert json.loads(report.read_text())["devices"][0]["counters"]["kernels"] == 1
        report.unlink()
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 128 + signal.SIGTERM
    assert report.exists()


def test_a_torch_with_real_xpus_is_left_alone() -> None:
    result = _python(
        "import torch; torch._C._has_xpu = True\nimport xpu_emulator; xpu_emulator.install()"
    )
    assert "InstallError" in result.stderr and "built for real XPUs" in result.stderr


def test_a_visible_cuda_gpu_is_left_alone() -> None:
    result = _python(
        "import torch; torch.cuda.is_available = lambda: True\n"
        "import xpu_emulator; xpu_emulator.install()"
    )
    assert "InstallError" in result.stderr and "CUDA_VISIBLE_DEVICES" in result.stderr


@pytest.mark.parametrize(
    "use",
    ["torch.accelerator.current_accelerator()", "torch.ones(1, requires_grad=True).backward()"],
)
def test_installing_too_late_is_refused(use: str) -> None:
    code = f"import torch; {use}\nimport xpu_emulator; xpu_emulator.install()"
    result = _python(code)
    # A CUDA build settles on CUDA first and may not have looked at the XPU yet.
    if result.returncode:
        assert "installed too late" in result.stderr
    else:
        check = f"{code}\nw = torch.ones(1, device='xpu', requires_grad=True); w.backward()"
        assert _python(check).returncode == 0


def test_importing_the_package_leaves_torch_alone() -> None:
    assert _python("import xpu_emulator, sys; assert 'torch' not in sys.modules").returncode == 0


def test_a_forked_child_must_not_use_the_cards() -> None:
    result = _python(
        "import os, torch, xpu_emulator\n"
        "xpu_emulator.install()\n"
        "torch.ones(1, device='xpu')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        torch.xpu.synchronize()\n"
        "    except RuntimeError as error:\n"
        "        os._exit(5 if 'forked subprocess' in str(error) else 6)\n"
        "    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert result.stdout == "5\n", result.stderr


def test_live_tensors_do_not_hurt_at_exit() -> None:
    result = _python(
        "import torch, xpu_emulator\n"
        "xpu_emulator.install(['a770', 'a770'])\n"
        "torch.kept = [torch.ones(4, device='xpu:1'), torch.ones(2).pin_memory()]\n"
        "torch.kept += [torch.xpu.Stream(), torch.xpu.Event(), torch.Generator('xpu')]\n"
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


def test_environment_without_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert os.pathsep not in child_environment()["PYTHONPATH"]


def test_beside_cuda_torch_keeps_its_own_accelerator(emulated_process: Run) -> None:
    """XPU tensors compute all the same; only real hardware can show the rest."""
    code = (
        "import torch\n"
        "built_for = torch.version.cuda\n"
        "print(torch.version.cuda == built_for, getattr(torch.version, 'xpu', None),\n"
        "      torch.xpu.is_available(), (torch.ones(3, device='xpu') * 2).sum().item())\n"
        "with torch.xpu.stream(torch.xpu.Stream()):\n"
        "    print(torch.ones(2, device='xpu').to('cpu').tolist())\n"
    )
    result = emulated_process(["--device", "a770", "--beside-cuda"], ["-c", code])
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["True None True 6.0", "[1.0, 1.0]"]
