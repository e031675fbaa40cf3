"""Weight files for the networks of every preprocessor, with random weights.

One row a family of networks: who adds a method adds its writer here.
"""

import os
from collections.abc import Callable
from pathlib import Path

from comfyui_ipex.nodes.preprocess.method import Method

Write = Callable[[Path], None]
"""Writes a checkpoint of random weights to a path, in the form of the published one."""

WRITERS: dict[str, Write] = {}
"""By the `WeightFile.name` of the files of methods' default networks."""


def written(method: Method, folder: Path) -> None:
    """The files of a method's default network in `folder`, a host's folder for annotators."""
    network = method.network({option.name: option.default for option in method.options})
    for file in () if network is None else network.files:
        path = folder / file.repository / file.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Other test processes may be about to write it too.
            part = path.with_name(f"{os.getpid()}-{path.name}")
            WRITERS[file.name](part)
            part.replace(path)
