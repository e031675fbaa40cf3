"""Runs inside a host's process on an emulated card: faults at the calls that nodes make on it.

usage: campaign.py MODELS EXTENSION SECONDS SEED NAME ...   (working directory: the host's tree)
A name is a node's id, or that of a workflow of the tests. Every SECONDS of work on one of them
end after the fault that runs then; the calls that fail are spread evenly, others with another
SEED. Prints one line of JSON for each name when it is done; the last line is a list of them all.
"""

import copy
import gc
import json
import logging
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import worker

MODELS, EXTENSION, SECONDS, SEED, WANTED = (
    Path(sys.argv[1]),
    sys.argv[2],
    float(sys.argv[3]),
    sys.argv[4],
    sys.argv[5:],
)
SERVED = worker.start(MODELS, EXTENSION)

import node_prompts  # noqa: E402
import torch  # noqa: E402
import xpu_emulator  # noqa: E402

import nodes  # noqa: E402

DEVICE = "xpu:0"

CARD = xpu_emulator.current().devices[0]

CLEAR = (
    ("OutOfMemoryError", "out of memory"),
    ("OutOfMemoryError", "ran out of memory"),
    ("DoesNotFitError", "free"),
    ("DoesNotFitError", "does not fit"),
)
"""(end of the error's class, words in it): what may be said when memory ran out."""

LOST = (("DeviceLostError", "Restart ComfyUI"),)
"""Likewise when the card was lost."""

WAYS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "IpexOptimize": (
        {"channels_last": "off", "compile": "off"},
        {"channels_last": "on", "compile": "off", "verify": False},
    ),
}
"""Inputs with which a node's results are right as well: it takes the faster way of those that work,
and in half precision another way is another rounding."""

HINT_BYTES = 128 << 10
"""After an error, the host's ControlNets keep the hint of the failed run until the next one."""

Prompt = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """One way in which a call on the card fails."""

    counter: str
    """Which calls are counted: allocations, kernels or copies."""
    error: str
    """Torch's own error, or one of Level Zero's."""

    def inject(self, nth: int) -> None:
        """Let the `nth` call from now fail; 0 takes it back."""
        if self.counter == "allocations":
            CARD.change(oom=self.error)
            CARD.fail_allocation(nth)
        elif self.counter == "kernels":
            CARD.fail_kernel(nth, self.error)
        else:
            CARD.fail_copy(nth, self.error)

    def is_clear(self, outcome: worker.Outcome) -> bool:
        """Whether it is the one error that a user can do something with."""
        known = LOST if self.error == "device_lost" else CLEAR
        return any(outcome.is_clear(kind, words) for kind, words in known)


FAULTS = (
    *(Fault("allocations", e) for e in ("torch", "out_of_device_memory", "out_of_resources")),
    *(
        Fault(counter, error)
        for counter in ("kernels", "copies")
        for error in ("out_of_device_memory", "out_of_resources", "device_lost")
    ),
)


@dataclass
class Row:
    """What came of the faults of one name."""

    name: str
    calls: int = 0
    """How many faults there could be: calls, times the errors that each may give."""
    injected: int = 0
    results: int = 0
    errors: int = 0
    lost: list[str] = field(default_factory=list)
    """Whatever else happened, in words."""
    seconds: float = 0.0


def counted() -> dict[str, int]:
    """The calls on the card so far."""
    found = CARD.counters()
    copies = sum(found[kind]["count"] for kind in ("h2d", "d2h", "d2d", "peer"))
    return {"allocations": found["allocations"], "kernels": found["kernels"], "copies": copies}


class Scene:
    """A node's workflow, which the executor runs anew each time."""

    def __init__(self, name: str) -> None:
        self._prompts, self._forget = prompts(name)
        self._turn = 0
        self.expected = self.run()
        assert self.expected.errors == 0, f"without any fault: {self.expected}"
        assert self.expected.picture is not None or self.expected.text, "nothing to see"
        self._also = [self._run_by(way) for way in WAYS.get(name, ())]
        self.run()  # what is found out once is known now
        before = counted()
        self.run()
        self.calls = {name: count - before[name] for name, count in counted().items()}

    def run(self, *, unload: bool = True) -> worker.Outcome:
        """Run it; all nodes behind the sources are executed."""
        self._turn = 1 - self._turn
        return SERVED.run(self._prompts[self._turn], unload=unload, forget=self._forget)

    def _run_by(self, way: Mapping[str, Any]) -> worker.Outcome:
        changed = copy.deepcopy(self._prompts[0])
        changed["node"]["inputs"].update(way)
        outcome = SERVED.run(changed, unload=True)
        assert outcome.picture is not None, f"by another way: {outcome}"
        return outcome

    def is_good(self, outcome: worker.Outcome) -> bool:
        """Whether it is what comes without faults: the picture to 1 LSB, or a text."""
        if self.expected.picture is not None:
            return any(outcome.equals(one) for one in (self.expected, *self._also))
        return bool(outcome.text) and not outcome.errors and not outcome.died


def prompts(name: str) -> tuple[tuple[Prompt, Prompt], bool]:
    """Two prompts with the same result, and whether the executor must be made to forget it."""
    if name in nodes.NODE_CLASS_MAPPINGS:
        node = nodes.NODE_CLASS_MAPPINGS[name]
        made = [node_prompts.workflow(name, node, DEVICE, turn=turn) for turn in (0, 1)]
        rows = node_prompts.schema(node).values()
        return (made[0], made[1]), not any(node_prompts.is_socket(row[0]) for row in rows)
    turned = [node_prompts.turned(worker.workflow(name), turn) for turn in (0, 1)]
    return (turned[0], turned[1]), False


def points(calls: dict[str, int], seed: str) -> Iterator[tuple[Fault, int]]:
    """Every fault at every call, in an order of which each beginning is an even sample.

    Another `seed`, another sample: few faults of a node are not the same of every node.
    """
    first = zlib.crc32(seed.encode())
    faults = FAULTS[first % len(FAULTS) :] + FAULTS[: first % len(FAULTS)]

    def mixed(number: int) -> float:
        # The golden ratio's multiples fill an interval evenly, however many there are.
        return ((number + first % 997) * 0.6180339887498949) % 1

    order = {name: sorted(range(1, count + 1), key=mixed) for name, count in calls.items()}
    for index in range(max(calls.values(), default=0)):
        for fault in faults:
            if index < calls[fault.counter]:
                yield fault, order[fault.counter][index]


def campaign(name: str) -> Row:
    """Faults for one name until its time is over."""
    row = Row(name)
    scene = Scene(name)
    started = time.monotonic()
    gc.collect()
    gc.freeze()  # the host collects after every prompt, and torch's modules are many objects
    errors = len(FAULTS) // len(scene.calls)
    row.calls = errors * sum(scene.calls.values())
    for fault, nth in points(scene.calls, f"{SEED} {name} {Path.cwd().name}"):
        if row.injected and time.monotonic() - started > SECONDS:
            break
        try_one(scene, fault, nth, row)
    row.seconds = time.monotonic() - started
    return row


def try_one(scene: Scene, fault: Fault, nth: int, row: Row) -> None:
    """One fault, and what follows it."""
    torch.xpu.empty_cache()
    unload = nth % 2 == 0
    fault.inject(nth)
    outcome = scene.run(unload=unload)
    fault.inject(0)
    row.injected += 1
    wrong = []
    if scene.is_good(outcome):
        row.results += 1
    elif fault.is_clear(outcome):
        row.errors += 1
    else:
        wrong.append(str(outcome))
    if unload:
        wrong += left_over(HINT_BYTES)
    following = scene.run()
    if not scene.is_good(following):
        wrong.append(f"the next prompt: {following}")
    wrong += left_over(0)
    row.lost += [f"{fault.counter} {nth}, {fault.error}: {one[:300]}" for one in wrong]


def left_over(most: int) -> list[str]:
    """What is on the card although all was unloaded, if it is more than `most` bytes."""
    if torch.xpu.memory_allocated(0) > most:
        gc.collect()
    left = torch.xpu.memory_allocated(0)
    return [f"{left} bytes are left on the card"] if left > most else []


def guarded(run: Callable[[str], Row], name: str) -> Row:
    """The row of one name; what broke it stands in it."""
    try:
        return run(name)
    except Exception:  # noqa: BLE001 (it is reported, and the other names go on)
        return Row(name, lost=[traceback.format_exc()[-600:]])


def main() -> None:
    """All names."""
    logging.disable(logging.CRITICAL)  # thousands of tracebacks of errors that are asked for
    node_prompts.register(nodes.NODE_CLASS_MAPPINGS)
    rows = []
    for name in WANTED:
        rows.append(asdict(guarded(campaign, name)))
        print(json.dumps(rows[-1]), flush=True)
    SERVED.close()
    print(json.dumps(rows), flush=True)


if __name__ == "__main__":
    main()
