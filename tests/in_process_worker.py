"""A worker without a process, for tests of what is asked of one."""

import copy
from collections.abc import Callable
from typing import Any

from comfyui_ipex.xpu_runtime.placement import Computed
from comfyui_ipex.xpu_runtime.worker_plan import WorkerPlan
from comfyui_ipex.xpu_runtime.workers import Resident, Worker


class InProcessWorker(Worker):
    """A worker without a process: what it is given and what it answers are copies."""

    def __init__(self, name: str = "worker") -> None:
        super().__init__(WorkerPlan(name, "cpu", ("python",)))
        self.made: dict[str, Any] = {}

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """As the worker's."""
        given = [self._find(one) for one in arguments]
        return copy.deepcopy(
            function(*given, **{key: self._find(value) for key, value in named.items()})
        )

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As the worker's, computed at once."""
        return Computed(self.call(function, *arguments))

    def _find(self, value: Any) -> Any:
        if not isinstance(value, Resident):
            return copy.deepcopy(value)
        if value.key not in self.made:
            self.made[value.key] = value.function(*map(self._find, value.arguments))
        return self.made[value.key]
