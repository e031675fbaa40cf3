"""Runs inside a host's process on an emulated card: memory runs out at one call after another.

usage: allocations.py MODELS EXTENSION POINTS FAULT ...       (working directory: the host's tree)
Prints one line of JSON: for each FAULT, {"calls", "tried", "pictures", "errors", "problems"}.

A small text-to-image workflow is run with the n-th call failing; POINTS such calls, spread over
all, or "all" of them, several in a row. The checkpoint stays in the executor's cache, so that the
next prompt meets what a failure leaves behind. Prompts take turns, with two texts or two seeds,
so that all nodes but the loader run each time.
"""

import copy
import gc
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import worker

MODELS, EXTENSION, POINTS = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
WANTED = sys.argv[4:]

# How often memory runs out before the next good prompt: where all calls are tried, that prompt
# would take most of the time.
FAULTS_IN_A_ROW = 8 if POINTS == "all" else 1

Prompt = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """One way in which memory runs out."""

    counter: str
    """Which calls are counted: allocations or kernels."""
    inject: Callable[[Any, int], None]
    """Makes the n-th call on a card fail; 0 takes it back."""
    style: str = "torch"
    """The error of an allocation."""
    uncounted: int = 0
    """1 if the counter leaves out the call that fails."""


def _allocation(card: Any, nth: int) -> None:
    card.fail_allocation(nth)


def _kernel(card: Any, nth: int) -> None:
    card.fail_kernel(nth, "out_of_resources")


FAULTS = {
    "torch": Fault("allocations", _allocation),
    "out_of_device_memory": Fault("allocations", _allocation, "out_of_device_memory"),
    "out_of_resources": Fault("allocations", _allocation, "out_of_resources"),
    "kernel": Fault("kernels", _kernel, uncounted=1),
}


@dataclass
class Tally:
    """What came of the prompts with one kind of fault."""

    calls: int = 0
    tried: int = 0
    pictures: int = 0
    errors: int = 0
    problems: list[str] = field(default_factory=list)


class Scene:
    """Two prompts of which each makes the executor forget the other's results."""

    def __init__(self, served: worker.Worker, card: Any, prompts: tuple[Prompt, Prompt]) -> None:
        self._served, self._prompts, self._last = served, prompts, 1
        self._pictures = [served.run(prompt, unload=True) for prompt in prompts]
        counted = []
        for expected in self._pictures:
            before = card.counters()
            outcome, _ = self.run(unload=True)
            after = card.counters()
            assert outcome.equals(expected), f"without any fault: {outcome}"
            counted.append({n: after[n] - before[n] for n in ("allocations", "kernels")})
        self.calls = counted[0]
        assert counted[1] == self.calls, "the two prompts do not the same"

    def run(self, *, unload: bool) -> tuple[worker.Outcome, worker.Outcome]:
        """Run the prompt that was not the last, and say what it gives without faults."""
        self._last = 1 - self._last
        outcome = self._served.run(self._prompts[self._last], unload=unload)
        return outcome, self._pictures[self._last]


class Campaign:
    """One fault, at every chosen call."""

    def __init__(self, card: Any, fault: Fault) -> None:
        self.card, self.fault = card, fault
        self.tally = Tally()

    def run(self, scene: Scene, calls: int) -> None:
        """Fail those of the scene's first `calls` calls that are chosen, one after another."""
        self.card.change(oom=self.fault.style)
        scene.run(unload=True)  # for what another scene has cached
        self.tally.calls += calls
        for nth in chosen(calls):
            self.try_one(nth, scene)

    def try_one(self, nth: int, scene: Scene) -> None:
        """One fault and what follows it. The models are unloaded after every other one."""
        import torch

        unload = nth % 2 == 0
        torch.xpu.empty_cache()
        before = self.card.counters()[self.fault.counter]
        self.fault.inject(self.card, nth)
        outcome, expected = scene.run(unload=unload)
        self.fault.inject(self.card, 0)
        made = self.card.counters()[self.fault.counter] - before
        if made + self.fault.uncounted < nth:
            self.problem(nth, "was not reached")
        self.tally.tried += 1
        if outcome.equals(expected):
            self.tally.pictures += 1
        elif outcome.is_clear("OutOfMemoryError", "out of memory"):
            self.tally.errors += 1
        else:
            self.problem(nth, str(outcome))
        if unload:
            self.nothing_is_left(nth)
        if outcome.picture is not None or nth % FAULTS_IN_A_ROW == 0:
            following, expected = scene.run(unload=True)
            if not following.equals(expected):
                self.problem(nth, f"the next prompt: {following}")
            self.nothing_is_left(nth)

    def nothing_is_left(self, nth: int) -> None:
        """Note what is still on the card although all was unloaded."""
        import torch

        gc.collect()
        left = torch.xpu.memory_allocated(0)
        if left:
            self.problem(nth, f"{left} bytes are left on the card")

    def problem(self, nth: int, what: str) -> None:
        """Note what must not be."""
        self.tally.problems.append(f"{self.fault.counter} {nth}: {what[:300]}")


def chosen(last: int) -> range:
    """The numbers of the calls that are to fail, of 1 to `last`."""
    # An odd step, so that even and odd ones are met.
    step = 1 if POINTS == "all" else max(1, last // int(POINTS)) | 1
    return range(1, last + 1, step)


def prompts() -> tuple[Prompt, Prompt, Prompt]:
    """The workflow, with another seed, and with another text."""
    plain = worker.workflow("txt2img")
    if EXTENSION == "bare":
        plain["6"]["inputs"]["model"] = plain.pop("2")["inputs"]["model"]
    seed, text = copy.deepcopy(plain), copy.deepcopy(plain)
    seed["6"]["inputs"]["seed"] = 7
    text["3"]["inputs"]["text"], text["4"]["inputs"]["text"] = "blue hills", "rain"
    return plain, seed, text


def main() -> dict[str, Any]:
    """Run the campaigns."""
    served = worker.start(MODELS, EXTENSION)
    import xpu_emulator

    logging.disable(logging.CRITICAL)  # thousands of tracebacks of errors that are asked for
    card = xpu_emulator.current().devices[0]
    plain, seed, text = prompts()
    encoding = Scene(served, card, (plain, text))
    sampling = Scene(served, card, (plain, seed))
    tallies = {}
    for name in WANTED:
        campaign = Campaign(card, FAULTS[name])
        # Texts are encoded first. What comes after that is tried without encoding them again.
        after = sampling.calls[campaign.fault.counter]
        campaign.run(encoding, encoding.calls[campaign.fault.counter] - after)
        campaign.run(sampling, after)
        tallies[name] = vars(campaign.tally)
    served.close()
    return tallies


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
