"""A probe in a fork of a warm process finds what it would find in a fresh one."""

import json
from pathlib import Path
from typing import Any

import hosts
import probes
import pytest

pytestmark = pytest.mark.host

SEEN = """
import json, os, sys, torch
cards = [torch.xpu.get_device_properties(one) for one in range(torch.xpu.device_count())]
print(json.dumps({
    "arguments": sys.argv[1:], "main": __name__, "first on the path": sys.path[0],
    "folder": os.getcwd(), "setting": os.environ.get("A_SETTING"), "input": sys.stdin.read(),
    "cards": [(card.name, card.total_memory) for card in cards],
    "used": torch.xpu.memory_allocated() if cards else 0,
    "host": sorted({"comfy", "nodes", "folder_paths", "comfyui_ipex"} & set(sys.modules)),
    "left by another": hasattr(torch, "left_behind"),
}))
torch.left_behind = torch.ones(1 << 20, device="xpu:0")
sys.exit(int(sys.argv[1]))
"""


def asked(folder: Path, code: str, *cards: str, **settings: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and what the program saw."""
    program = folder / "seen.py"
    program.write_text(SEEN, encoding="utf-8")
    python = hosts.installed(hosts.REFERENCE).python
    arguments = [str(python), *probes.EMULATED, *cards, "--", str(program), code]
    started = {"args": arguments, "cwd": folder, "env": settings}
    status, output, errors = probes.warm(python).ask(started)
    assert errors == ""
    return status, json.loads(output)


def test_each_probe_starts_anew_with_its_own_cards(tmp_path: Path) -> None:
    expected = {
        "arguments": ["0"],
        "main": "__main__",
        "first on the path": str(tmp_path),
        "folder": str(tmp_path),
        "setting": "first",
        "input": "",
        "cards": [["Intel(R) Arc(TM) A770 Graphics", 3 << 30]] * 2,
        "used": 0,
        "host": [],
        "left by another": False,
    }
    cards = ("--device", "a770", "--count", "2", "--memory", "3GiB")
    assert asked(tmp_path, "0", *cards, A_SETTING="first") == (0, expected)
    status, seen = asked(tmp_path, "3", "--device", "b580")
    assert status == 3
    [card] = seen["cards"]
    assert "B580" in card[0]
    assert seen == {**expected, "arguments": ["3"], "setting": None, "cards": [card]}


def test_a_probe_that_breaks_says_why(tmp_path: Path) -> None:
    program = tmp_path / "breaks.py"
    program.write_text("raise ValueError('so it is')\n", encoding="utf-8")
    python = hosts.installed(hosts.REFERENCE).python
    arguments = [str(python), *probes.EMULATED, "--device", "a770", "--", str(program)]
    status, _, errors = probes.warm(python).ask({"args": arguments, "cwd": tmp_path, "env": {}})
    assert status == 1
    assert errors.rstrip().endswith("ValueError: so it is")
