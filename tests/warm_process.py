"""A Python that has imported what hosts import, and becomes a probe again and again.

A host's imports (torch, transformers, scipy) take longer than most probes do. This program imports
them once, beside emulated cards, and forks for each probe. The host and this extension are
imported in the fork, in the order in which the probe imports them.

A line of JSON on standard input asks for a probe; a line of output is its exit status.
"""

import contextlib
import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch  # isort: skip

import xpu_emulator
from xpu_emulator.__main__ import emulate_anew, start_program

PACKAGES = (
    "torchvision",
    "torchaudio",
    "transformers.models.clip.tokenization_clip",
    "transformers.models.t5.tokenization_t5",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.llama.tokenization_llama",
    "transformers.models.qwen2.tokenization_qwen2",
    "scipy.stats",
    "scipy.integrate",
    "torchsde",
    "einops",
    "safetensors.torch",
    "PIL.Image",
    "psutil",
    "yaml",
    "tqdm.auto",
    "spandrel",
)
"""What hosts and this extension import; a host that does without one may not have it."""


def _become(wanted: dict[str, Any]) -> None:
    """Run the probe in this process, as a fresh Python would."""
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    opened = ((0, os.devnull, os.O_RDONLY), (1, wanted["out"], os.O_WRONLY))
    for descriptor, path, mode in (*opened, (2, wanted["errors"], os.O_WRONLY)):
        os.dup2(os.open(path, mode), descriptor)
    start_program(emulate_anew(wanted["arguments"]))


def _wanted() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Serve until standard input ends. A fork leaves as the probe does that it has become."""
    xpu_emulator.install(["a770", "a770"])
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    gc.freeze()
    for wanted in _wanted():
        child = os.fork()
        if child == 0:
            _become(wanted)
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    assert not torch.xpu.is_available()
    main()
