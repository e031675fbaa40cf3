"""Runs of the stream in tests: without a host, into a tensor."""

from typing import Any

import torch
from comfyui_ipex.inference import stream
from comfyui_ipex.inference.budget import Budget
from comfyui_ipex.inference.stream import SILENT, TensorSink, Ui
from comfyui_ipex.nodes.preprocess.picture_task import PictureTask
from comfyui_ipex.nodes.preprocess.preprocessor import Hints
from torch import Tensor


class CountingBudget(Budget):
    """A device without a host: counts what is asked of it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.cleared = 0
        self.emptied = 0

    def clear(self) -> None:
        self.cleared += 1

    def empty_caches(self) -> None:
        self.emptied += 1


def upscaled(task: Any, ui: Ui = SILENT, budget: Budget | None = None) -> Tensor:
    """The result of a `TileTask`."""
    sink = TensorSink(torch.full(task.result_shape, torch.nan))
    stream.run(task, sink, budget or CountingBudget(task.device), ui)
    return sink.result


def hinted(task: PictureTask, ui: Ui = SILENT, budget: Budget | None = None) -> Hints:
    """The result of a `PictureTask`."""
    height, width = task.call.sizes.result
    sink = TensorSink(torch.full((len(task.images), height, width, 3), torch.nan))
    stream.run(task, sink, budget or CountingBudget(task.device), ui)
    return Hints(sink.result, task.poses)
