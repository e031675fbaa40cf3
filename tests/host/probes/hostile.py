"""Runs inside a host's process on its CPU: what do nodes make of input that nobody should send?

usage: hostile.py MODELS EXTENSION EXAMPLES SECONDS NODE ...  (working directory: the host's tree)
Prints a line of JSON for each node when it is done: how many prompts were refused by the host, gave
a result or a clear error, what gave anything else, the most memory that this process took more
than before it in bytes, and the seconds. A node is given at most `EXAMPLES` fuzzed prompts, and
none after `SECONDS` of them. What takes longer than `PATIENCE` is interrupted, as a user would.
"""

import asyncio
import inspect
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import worker

MODELS, EXTENSION = Path(sys.argv[1]), sys.argv[2]
EXAMPLES, SECONDS, WANTED = int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:]
# Options of the host, which reads them from the command line.
SERVED = worker.start(MODELS, EXTENSION, ("--cpu",))

import execution  # noqa: E402
import hostile_pictures  # noqa: E402
import hypothesis.strategies as st  # noqa: E402
import node_prompts  # noqa: E402
import psutil  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402

import nodes  # noqa: E402

# What the computer says is available: results of absurd sizes are errors instead of a minute.
AVAILABLE = 96 << 20

PATIENCE = 60.0
"""Seconds. A widget's value may be a million steps, which are as many as were asked for."""

# Of a node with a picture of its own: these come over links, which the host does not check.
OVER_LINKS = {
    "INT": [-1, 0, 1, 1 << 40, -(1 << 70), True, None, "8"],
    "FLOAT": [float("nan"), float("inf"), -1.0, 1e300, 0.0, None],
}


def refused(prompt: dict[str, Any]) -> bool:
    """Whether the host's own validation refuses it, as it does when it is queued."""
    # Hosts ask for the prompt, for its id too, and for what of it is to be run.
    wanted = len(inspect.signature(execution.validate_prompt).parameters)
    answer = execution.validate_prompt(*((), ("1",))[wanted > 1], prompt, *(None,) * (wanted - 2))
    if inspect.isawaitable(answer):
        answer = asyncio.run(answer)
    return not answer[0]


class HangingError(Exception):
    """A prompt that does not end: this process is of no further use."""


@dataclass
class Tally:
    """What prompts for one node came to."""

    name: str
    refused: int = 0
    results: int = 0
    errors: int = 0
    unclear: list[str] = field(default_factory=list)

    def judge(self, what: str, prompt: dict[str, Any]) -> None:
        """Run a prompt and count it; note it where neither a result nor a clear error came."""
        if refused(prompt):
            self.refused += 1
            return
        impatient = threading.Timer(PATIENCE, nodes.interrupt_processing)
        impatient.start()
        outcome = SERVED.run(prompt)
        impatient.cancel()
        if outcome.died or outcome.errors > 1:
            self.unclear.append(f"{what}: {outcome}")
            if outcome.died == "hangs":
                raise HangingError(self.unclear[-1])  # prompts behind it would wait for it
        elif outcome.errors == 0:
            self.results += 1
        elif EXTENSION in outcome.kind or "out of memory" in outcome.message:
            self.errors += 1
        else:
            self.unclear.append(f"{what}: {outcome}")


def made(node_id: str, kind: str = "photo", **widgets: Any) -> dict[str, Any]:
    """A prompt for a node."""
    found = node_prompts.workflow(node_id, nodes.NODE_CLASS_MAPPINGS[node_id], "cpu", kind=kind)
    found["node"]["inputs"] |= widgets
    if "save" in found:  # the host saves no gray pictures
        found["save"] = node_prompts.node("Shown", images=["out", 0])
    return found


def takes_pictures(node_id: str) -> bool:
    """Whether a node has a socket for pictures or masks."""
    rows = node_prompts.schema(nodes.NODE_CLASS_MAPPINGS[node_id]).values()
    return any(row[0] in ("IMAGE", "MASK") for row in rows)


def bad_pictures(tally: Tally) -> None:
    """Every kind of picture, at the node's size and at 64 pixels."""
    node_id = tally.name
    sizes = {"resolution": 0} if "resolution" in inputs_of(node_id) else {}
    for kind in hostile_pictures.HOSTILE:
        tally.judge(kind, made(node_id, kind))
        # At 64 pixels a side the long one of these would be a million.
        if sizes:
            tally.judge(f"{kind}, its own size", made(node_id, kind, **sizes))


def inputs_of(node_id: str) -> dict[str, Any]:
    """A node's inputs."""
    return node_prompts.schema(nodes.NODE_CLASS_MAPPINGS[node_id])


def over_links(tally: Tally) -> None:
    """Widgets' values that another node hands on."""
    for name, row in inputs_of(tally.name).items():
        for value in OVER_LINKS.get(row[0], ()) if isinstance(row[0], str) else NAMES:
            prompt = made(tally.name, **{name: ["value", 0]})
            prompt["value"] = node_prompts.node("Given", value=json.dumps(value))
            tally.judge(f"{name} = {str(value)[:40]!r} over a link", prompt)


class Given:
    """A node that gives any plain value."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        """What is given, as JSON, with Python's NaN and Infinity."""
        return {"required": {"value": ("STRING", {"default": "0"})}}

    RETURN_TYPES = (node_prompts.AnyType("*"),)
    FUNCTION = "give"
    CATEGORY = "tests"

    def give(self, value: str) -> tuple[Any]:
        """The value."""
        return (json.loads(value),)


NAMES = ["../../etc/passwd", "/etc/passwd", "a\0b", "", ".", "x" * 5000, "C:\\x", "mini_esrgan_x2"]

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(NAMES),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([["nobody", 0], ["photo", 7], ["photo", "0"], ["node", 0]]),
)


def widget_values(name: str, row: Any) -> Any:
    """What a page, or a program in its place, may send for an input."""
    kind, limits = row[0], row[1] if len(row) > 1 else {}
    if isinstance(kind, list):
        good: Any = st.sampled_from(kind or [""])
    elif kind == "INT":
        good = st.integers(limits.get("min", 0), min(limits.get("max", 1024), 1 << 64))
    elif kind == "FLOAT":
        good = st.floats(limits.get("min", 0.0), limits.get("max", 1.0))
    elif kind == "BOOLEAN":
        good = st.booleans()
    else:
        good = st.just(None) if kind == "STRING" else st.nothing()
    return st.one_of(good, good, JUNK)


def fuzzed(tally: Tally) -> None:
    """Prompts as hypothesis makes them from the node's own schema."""
    rows = inputs_of(tally.name)
    # Networks are read again for another precision, and downloads are other tests' matter.
    fixed = ("precision", "download", "preprocessor", "model")
    values = {
        name: widget_values(name, row)
        for name, row in rows.items()
        if not (node_prompts.is_socket(row[0]) or name in fixed)
    }
    hostile = hostile_pictures.HOSTILE if takes_pictures(tally.name) else ()
    kinds = st.sampled_from(["photo", "photo", *hostile])

    end = time.monotonic() + SECONDS

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 100,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.fixed_dictionaries({}, optional=values), kinds)
    def one(widgets: dict[str, Any], kind: str) -> None:
        if time.monotonic() < end:
            tally.judge(f"{kind}, {str(widgets)[:300]}", made(tally.name, kind, **widgets))

    one()


def limited_memory() -> Iterator[None]:
    """While it lasts, little memory is available."""
    own = psutil.virtual_memory
    psutil.virtual_memory = lambda: own()._replace(available=AVAILABLE)
    yield
    psutil.virtual_memory = own


def memory(what: str) -> int:
    """Of this process in bytes: now ("VmRSS"), or the most since the last `forget_the_most`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def forget_the_most() -> None:
    """Let "VmHWM" begin again at what is taken now."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """All of it, for each node that was named."""
    logging.disable(logging.CRITICAL)
    node_prompts.register(nodes.NODE_CLASS_MAPPINGS)
    nodes.NODE_CLASS_MAPPINGS["Given"] = Given
    for node_id in WANTED:
        forget_the_most()
        before, tally, started = memory("VmRSS"), Tally(node_id), time.monotonic()
        for _ in limited_memory():
            if takes_pictures(node_id):
                bad_pictures(tally)
            over_links(tally)
            fuzzed(tally)
        grew = max(0, memory("VmHWM") - before)
        measured = {"grew": grew, "seconds": time.monotonic() - started}
        sys.stdout.write(json.dumps({**asdict(tally), **measured}) + "\n")
        sys.stdout.flush()
    SERVED.close()


if __name__ == "__main__":
    main()
