"""Two clients, interrupts, "Unload models" and the report at the same time, on emulated cards."""

import contextlib
import copy
import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import servers
from servers import ComfyServer, ServerPool

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

PROMPTS = 5
"""Of each client."""

SECONDS = 240.0


def seeded(seed: int) -> dict[str, Any]:
    """The workflow that makes a picture of a text, with a seed of its own."""
    prompt = copy.deepcopy(servers.workflow("txt2img", "xpu:0"))
    for node in prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["seed"] = seed
    return prompt


class Crowd:
    """Threads that ask a server for different things until they are told to stop."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.wrong: list[str] = []
        self._threads: list[threading.Thread] = []

    def always(self, act: Callable[[], None], pause: float) -> None:
        """Call `act` again and again."""

        def work() -> None:
            while not self.over.wait(pause):
                self._guarded(act)

        self._start(work)

    def once(self, act: Callable[[], None]) -> None:
        """Call `act`."""
        self._start(lambda: self._guarded(act))

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, ValueError, KeyError, AssertionError) as error:
            self.wrong.append(repr(error))

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def end(self) -> None:
        """Wait for all of them."""
        self.over.set()
        for thread in self._threads:
            thread.join()


def queue_all(server: ComfyServer, first: int, asked: list[str]) -> None:
    """One client's prompts."""
    client = uuid.uuid4().hex
    asked += [server.client.queue(seeded(first + one), client) for one in range(PROMPTS)]


def ended(server: ComfyServer, asked: list[str]) -> dict[str, dict[str, Any]]:
    """What the history says of every prompt, when there is nothing left to do."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        history = server.client.get_json("/history")
        if set(asked) <= set(history):
            return {one: history[one]["status"] for one in asked}
        time.sleep(0.2)
    raise AssertionError(
        f"{len(set(asked) - set(history))} prompts never ended:\n{server.log[-3000:]}"
    )


def was_interrupted(status: dict[str, Any]) -> bool:
    """Whether this is all that went wrong with a prompt."""
    return any(event == "execution_interrupted" for event, _ in status["messages"])


def test_a_crowd_gets_pictures_or_interrupts_and_the_server_is_as_before(
    pool: ServerPool, host_version: str
) -> None:
    server = pool.get(servers.on_device(host_version, "xpu"))
    before = server.run_fresh(seeded(1)).images
    crowd, asked = Crowd(), list[str]()
    reports: list[int] = []

    def report() -> None:
        found = json.loads(server.client.get("/ipex/report", format="json"))
        reports.append(len(found["devices"]))

    for first in (100, 200):
        crowd.once(lambda first=first: queue_all(server, first, asked))
    crowd.always(report, 0.05)
    crowd.always(lambda: server.client.post("/interrupt", b"{}", "application/json") and None, 0.7)
    crowd.always(server.forget, 0.5)
    deadline = time.monotonic() + SECONDS
    while len(asked) < 2 * PROMPTS and time.monotonic() < deadline:
        time.sleep(0.05)
    with contextlib.ExitStack() as stack:
        stack.callback(crowd.end)
        statuses = ended(server, asked)
    assert crowd.wrong == []
    assert len(reports) > 5
    assert set(reports) == {3}
    failed = {
        name: status
        for name, status in statuses.items()
        if status["status_str"] != "success" and not was_interrupted(status)
    }
    assert failed == {}
    after = server.run_fresh(seeded(1)).images
    assert [np.array_equal(one, other) for one, other in zip(before, after, strict=True)] == [True]
