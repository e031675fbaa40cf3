"""What is kept about a network: its layout now, what was measured, and recorded steps."""

import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .blocks import Calls
from .layout import lay_out
from .step_graph import StepGraph
from .trial import Measurement

MOST_GRAPHS = 4
"""Recorded steps that a network keeps: sizes of the workflow at hand."""


@dataclass
class NetworkState:
    """About one network, which all clones of its patcher share."""

    owner: Any = None
    """A weak reference to the patcher for which the layout was changed; None if it is as found."""
    outcomes: dict[Any, Measurement] = field(default_factory=dict)
    """What was measured, by wishes, device, size and dtype."""
    troubles: dict[Any, str] = field(default_factory=dict)
    """Why a step with inputs of some kind cannot be recorded."""
    graphs: OrderedDict[Any, tuple[int, StepGraph]] = field(default_factory=OrderedDict)
    """Recorded steps, each with the fingerprint of the weights that it reads."""
    calls: dict[Any, Calls] = field(default_factory=dict)
    weights: tuple[dict[str, Any], ...] = ()
    """The tables of weights of the network's modules."""
    fresh: bool = False
    """Weights were loaded since the layout was last looked at."""
    unfit: str = ""
    """Why the last step ran as found, whatever had been measured; "" if nothing kept it."""
    short_of_memory: bool = False
    """Memory ran out: the rest of this sampling runs as found."""
    said: set[str] = field(default_factory=set)
    """Reasons that were logged."""

    def owned_by(self, patcher: Any) -> bool:
        """Whether the layout was changed for this patcher."""
        return self.owner is not None and self.owner() is patcher

    def lay_out(self, network: nn.Module, channels_last: bool, patcher: Any) -> None:
        """Put the weights into a layout for a patcher, or back into the one as found."""
        if not channels_last and self.owner is None:
            return
        if channels_last and self.owned_by(patcher) and not self.fresh:
            return
        lay_out(network, channels_last)
        self.owner = weakref.ref(patcher) if channels_last else None
        self.fresh = False

    def loaded(self) -> None:
        """Take note that the host has loaded weights, which may be others."""
        self.fresh = True
        self.short_of_memory = False
        self.weights = ()

    def fingerprint(self, network: nn.Module) -> int:
        """Equal as long as all weights lie where they lay: a recorded step reads them there."""
        if not self.weights:
            # Walking through a network takes longer than a step may.
            self.weights = tuple(one._parameters for one in network.modules() if one._parameters)
        found = (one for weights in self.weights for one in weights.values() if one is not None)
        return hash(tuple(one.data_ptr() for one in found))

    def keep(self, key: Any, weights: int, graph: StepGraph) -> None:
        """Keep a recorded step, and drop the one that was not used for longest."""
        self.graphs[key] = (weights, graph)
        self.graphs.move_to_end(key)
        while len(self.graphs) > MOST_GRAPHS:
            self.graphs.popitem(last=False)

    def restore(self, network: nn.Module) -> None:
        """Undo everything that lasts longer than a step, and give its memory back."""
        self.graphs.clear()
        self.lay_out(network, False, None)


_STATES: weakref.WeakKeyDictionary[nn.Module, NetworkState] = weakref.WeakKeyDictionary()


def state_of(network: nn.Module) -> NetworkState:
    """What is kept about `network`; it goes with it."""
    return _STATES.setdefault(network, NetworkState())


def outcomes() -> list[Measurement]:
    """What was measured in this process about networks that are still there."""
    return [one for state in _STATES.values() for one in state.outcomes.values()]
