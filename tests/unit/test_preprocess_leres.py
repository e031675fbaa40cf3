"""LeReS against controlnet_aux's detector, on the same random weights and a photo."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from annotators import as_bytes, batch, pictures, random_weights, save, sharing
from comfyui_ipex.nodes.preprocess.networks import leres
from torch import nn


@pytest.fixture(scope="module", autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def networks(tmp_path_factory: Any) -> tuple[nn.Module, Any]:
    """LeReS as it is loaded from its file, and the package's detector with these weights."""
    from controlnet_aux import LeresDetector
    from controlnet_aux.leres.leres.multi_depth_model_woauxi import RelDepthModel

    with torch.device("meta"):
        theirs = RelDepthModel(backbone="resnext101")
        weights = random_weights(theirs.state_dict(), gain=1.0)
    stored = {f"module.{name}": value for name, value in weights.items()}
    path = tmp_path_factory.mktemp("leres") / "res101.pth"
    ours = leres.load(save(stored, path, "depth_model"))
    return ours, LeresDetector(sharing(theirs, weights), SimpleNamespace())


@pytest.mark.parametrize("limits", [(0.0, 0.0), (40.0, 30.0)], ids=["", "limits"])
def test_leres_equals_its_detector(
    networks: tuple[nn.Module, Any], limits: tuple[float, float]
) -> None:
    ours, detector = networks
    images = pictures(64, 128)
    reference = detector(
        as_bytes(images[0]),
        *limits,
        detect_resolution=64,
        image_resolution=64,
        output_type="np",
    )
    assert reference.std() > 5
    options = dict(zip(("rm_nearest", "rm_background"), limits, strict=True)) | {"boost": "disable"}
    hint = leres.estimate_depth(ours, batch(images), options).pictures[0]
    # Bytes are rounded by the package, and at a limit a pixel may fall on either side of it.
    off = np.abs(hint.movedim(0, -1).numpy() * 255 - reference[..., :1])
    assert (off > 1.05).mean() <= (0.02 if any(limits) else 0)


def test_the_hosts_command_line_is_not_read(
    networks: tuple[nn.Module, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["main.py", "--gpu_ids", "none", "--name"])
    with torch.device("meta"):
        leres.Leres()
