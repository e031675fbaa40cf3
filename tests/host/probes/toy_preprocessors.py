"""Preprocessors whose network is two convolutions, for probes in a host's process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

MIB = 1 << 20
loads: list[str] = []
"""The toys whose weights were read, in this order."""


class InjectedError(Exception):
    """Breaks a network on purpose."""


class Edges(torch.nn.Module):
    """Two convolutions and weights that are only there to take memory."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.last = torch.nn.Conv2d(8, 1, 3, padding=1)
        self.ballast = torch.nn.Parameter(torch.ones(4 * MIB // 4))
        numbers = torch.Generator().manual_seed(4)
        for weight in (*self.first.parameters(), *self.last.parameters()):
            weight.data.uniform_(-0.4, 0.4, generator=numbers)
        self.gain = gain
        self.whole = [self]  # published networks have such cycles, which Python frees late

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Any number."""
        return self.last(torch.relu(self.first(pictures))) * self.gain


def made(method: Any, folder: Path, name: str, gain: float, looks: bool) -> Any:
    """A `Method` whose network is the one above; `looks` makes it fail on the meta device.

    `method` is the extension's module of that name. The weights are written to `folder`.
    """
    file = method.WeightFile("tests/toys", f"{name}.pth", "main")
    path = folder / f"{name}.pth"
    with torch.inference_mode(False):
        torch.save(Edges(gain).state_dict(), path)

    def load(paths: Mapping[str, Path]) -> torch.nn.Module:
        loads.append(name)
        network = Edges(gain)
        network.load_state_dict(torch.load(paths[file.name], weights_only=True))
        return network.eval()

    def make_hint(network: Any, batch: Any, options: Mapping[str, Any]) -> Any:
        if looks and float(batch.images.amax()) < 0:
            raise InjectedError
        return method.Hint(torch.sigmoid(network(batch.images)))

    return method.Method(
        name,
        name,
        "lines",
        "A toy.",
        make_hint,
        networks={"": method.NetworkSpec((file,), load)},
        multiple_of=8,
    )
