"""Weight files for the networks of preprocessors, with random weights, where servers find them.

Who adds a method adds its writer here, or says in `ELSEWHERE` which tests run it.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from comfyui_ipex.nodes.preprocess.method import Method

_MOST_COMMENT = (1 << 16) - 1

_LARGE = "hundreds of MB of weights: the unit tests of its family run it on an emulated card"

ELSEWHERE: dict[str, str] = {
    "DepthAnythingV2": _LARGE,
    "DWPose": "TorchScript files: its unit tests make small ones",
    "LeresDepth": _LARGE,
    "MidasDepth": _LARGE,
    "MidasNormal": _LARGE,
    "NormalBae": _LARGE,
    "Openpose": _LARGE,
    "Sam": "many calls for one picture: the unit tests of its family run it",
    "ZoeDepth": _LARGE,
}
"""Methods that no server test runs, and why."""


def _edges(path: Path) -> None:
    """Of the edge and line networks, whose files all have names of their own."""
    import edge_networks

    name = path.name.partition("@")[0]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        edge_networks.write(Path(folder), name).replace(path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "7_model.pth": _edges,
    "ControlNetHED.pth": _edges,
    "MTEED.pth": _edges,
    "erika.pth": _edges,
    "mlsd_large_512_fp32.pth": _edges,
    "netG.pth": _edges,
    "sk_model.pth": _edges,
    "table5_pidinet.pth": _edges,
}
"""By the names of the files of methods' default networks: they write to a path that begins with
that name, in the form of the published checkpoint."""


def written(method: Method, folder: Path) -> None:
    """The files of a method's default network in `folder`, a host's folder for annotators."""
    network = method.network({option.name: option.default for option in method.options})
    for file in () if network is None else network.files:
        path = folder / file.repository / file.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Other test processes may be about to write it too.
            part = path.with_name(f"{path.name}@{os.getpid()}")
            WRITERS[path.name](part)
            if file.size is not None:
                enlarge(part, file.size)
            part.replace(path)


def enlarge(path: Path, size: int) -> None:
    """Give a checkpoint the size of the published one, without which it is passed over.

    What is beside the weights is not read. The last bytes are the comment of a zip file.
    """
    missing = size - path.stat().st_size - _MOST_COMMENT // 2
    if missing > 0:
        found = torch.load(path, weights_only=True)
        weights = found.get("state_dict", found)
        torch.save({"state_dict": weights, "filling": torch.zeros(missing).byte()}, path)
    comment = size - path.stat().st_size
    assert 0 <= comment <= _MOST_COMMENT, f"{path.name} would be {-comment} bytes too large"
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(comment.to_bytes(2, "little") + bytes(comment))
