"""The host's own prompt worker in this process: what each prompt gave, and whether it survived.

`main.prompt_worker` runs in a thread as in a server, with `PromptExecutor` and all that follows a
prompt. For probes, in the host's tree and before the host is imported.
"""

import asyncio
import atexit
import inspect
import json
import queue
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Far more than any prompt needs on a busy machine.
HANG_SECONDS = 300.0


@dataclass
class Outcome:
    """What one prompt gave."""

    picture: np.ndarray | None = None
    """The picture that was saved, uint8 [H, W, 3]; None if there is none."""
    kind: str = ""
    """The class of the error that the executor reported; "" if there was none."""
    message: str = ""
    """Its text, as a user reads it."""
    errors: int = 0
    """How many errors the executor reported."""
    text: str = ""
    """What output nodes showed, if they showed text."""
    died: str = ""
    """What ended the worker, or "hangs"; "" if it waits for the next prompt."""

    def equals(self, expected: "Outcome") -> bool:
        """Whether this is the same picture, to 1 LSB, from a worker that lives."""
        if self.picture is None or expected.picture is None or self.died:
            return False
        difference = np.abs(self.picture.astype(int) - expected.picture.astype(int))
        return int(difference.max()) <= 1

    def is_clear(self, kind: str, words: str) -> bool:
        """Whether this is one error of class `kind` that says `words`, from a worker that lives."""
        named = self.kind.endswith(kind) and words in self.message
        return named and self.errors == 1 and self.picture is None and not self.died

    def __str__(self) -> str:
        if self.died:
            return f"the worker died: {self.died}"
        if self.errors:
            return f"{self.kind}: {self.message.strip()}"
        return "no picture" if self.picture is None else "a picture"


class _EndOfWorkError(Exception):
    """Ends the worker's loop, which the host never leaves."""


class Worker:
    """A server's worker; stands in for the queue that it serves."""

    def __init__(self, main: Any, output: Path, server: Any) -> None:
        self._main, self._output, self._server = main, output, server
        self._prompts: queue.Queue[tuple[dict[str, Any], dict[str, bool]] | None] = queue.Queue()
        self._outcomes: queue.Queue[Outcome] = queue.Queue()
        self._outcome: Outcome | None = None
        self._flags: dict[str, bool] = {}
        self._number = 0
        self._start()

    def run(
        self, prompt: Mapping[str, Any], *, unload: bool = False, forget: bool = False
    ) -> Outcome:
        """Run a prompt, and return when the worker waits for the next one or is dead.

        `unload`: then press "Unload models"; `forget`: also forget cached results. A worker that
        died is replaced by a new one; one that hangs is not, and cannot be used any more.
        """
        flags = {"unload_models": unload, "free_memory": forget}
        self._prompts.put((dict(prompt), {name: True for name, on in flags.items() if on}))
        try:
            outcome = self._outcomes.get(timeout=HANG_SECONDS)
        except queue.Empty:
            return Outcome(died="hangs")
        if outcome.died:
            self._start()
        return outcome

    def close(self) -> None:
        """End the worker's thread."""
        self._prompts.put(None)
        self._thread.join()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._main.prompt_worker(self, self._server)
        except _EndOfWorkError:
            return
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends a server's work)
            outcome, self._outcome = self._outcome or Outcome(), None
            outcome.died = f"{type(error).__name__}: {error}"
            self._outcomes.put(outcome)

    def get(self, timeout: float | None = None) -> tuple[tuple[Any, ...], int]:
        """The next prompt. The worker asks for it when all is done that follows the last one."""
        if self._outcome is not None:
            outcome, self._outcome = self._outcome, None
            self._outcomes.put(outcome)
        asked = self._prompts.get()
        if asked is None:
            raise _EndOfWorkError
        prompt, self._flags = asked
        self._number += 1
        outputs = [name for name, node in prompt.items() if self._shows(node["class_type"])]
        # number, id, prompt, extra data, outputs, and in newer hosts what must not be logged
        return (self._number, str(self._number), prompt, {}, outputs, {}), self._number

    def task_done(self, item_id: int, history: dict[str, Any], status: Any, **_: Any) -> None:
        """Keep what the executor reports."""
        outcome = Outcome(self._picture(history) if status.completed else None)
        shown = [part for one in history["outputs"].values() for part in one.get("text", ())]
        outcome.text = "\n".join(map(str, shown)) if status.completed else ""
        for event, data in status.messages:
            if event == "execution_error":
                outcome.kind, outcome.message = data["exception_type"], data["exception_message"]
                outcome.errors += 1
        self._outcome = outcome

    def get_flags(self, reset: bool = True) -> dict[str, bool]:
        """What users ask for with the page's buttons."""
        return self._flags

    @staticmethod
    def _shows(kind: str) -> bool:
        import nodes

        return bool(getattr(nodes.NODE_CLASS_MAPPINGS[kind], "OUTPUT_NODE", False))

    def _picture(self, history: dict[str, Any]) -> np.ndarray | None:
        for output in history["outputs"].values():
            for image in output.get("images", ()):
                with Image.open(self._output / image["filename"]) as opened:
                    return np.asarray(opened.convert("RGB"))
        return None


def load_extension(folder: str) -> None:
    """Load a custom-node pack as the host does; "bare" stands for none."""
    import nodes

    if folder != "bare":
        loaded = nodes.load_custom_node(folder)
        assert asyncio.run(loaded) if inspect.isawaitable(loaded) else loaded


def start(models: Path, extension: str, arguments: Sequence[str] = ()) -> Worker:
    """Import the host as its server does, load an extension, and start the worker.

    `models` is the folder of the tests' checkpoints, `extension` a path or "bare". Pictures
    and whatever else the host writes go to a temporary folder.
    """
    import models as checkpoints

    base = Path(tempfile.mkdtemp(prefix="comfyui-ipex-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    for name in ("custom_nodes", "input", "output", "user", "models/checkpoints"):
        (base / name).mkdir(parents=True)
    (base / "paths.yaml").write_text(checkpoints.model_paths(models), encoding="utf-8")
    paths = ["--extra-model-paths-config", str(base / "paths.yaml")]
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = ["main.py", "--base-directory", str(base), *paths, *arguments]
    import main
    import server

    if hasattr(main.args, "cache_classic"):  # else newer hosts remember more than the last prompt
        main.args.cache_classic = True
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    instance = server.PromptServer(loop)
    load_extension(extension)
    return Worker(main, base / "output", instance)


def workflow(name: str) -> dict[str, Any]:
    """The tests' workflow `name`."""
    file = Path(__file__).parents[2] / "workflows" / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))
