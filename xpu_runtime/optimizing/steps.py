"""The wrapper around a model's steps: it decides at the first step of a size how to run it.

The first step runs as found and in each other way, on the real inputs; its own result is always
the one as found. Patch 0006's `on_full_load` is not used: a wrapper works on patched hosts and on
unpatched ones.
"""

import subprocess
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import host
from ..errors import is_out_of_memory
from ..host.types import ModelPatcher
from ..log import LOGGER
from ..readable import ERRORS
from . import blocks, trial
from .inputs import OPTIONS, Flat, flat, rebuilt
from .plan import inductor_mode
from .settings import FOUND, OFF, OptimizeSettings, StepPlan, Variant
from .state import NetworkState, state_of
from .step_graph import StepGraph
from .trial import Measurement, Tried

KEPT_SHARE = 8
"""Recorded steps are kept between samplings while they take at most 1/8 of what is free."""

# What a way to run a step may fail with. Interrupts of the host are none of these.
TROUBLE = (*ERRORS, subprocess.SubprocessError)


class Optimizer:
    """How the steps of a ModelPatcher and its clones run."""

    def __init__(
        self, wishes: OptimizeSettings, plan: StepPlan, backend: str = blocks.INDUCTOR
    ) -> None:
        self.wishes = wishes
        self.plan = plan
        self._backend = backend

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """A step. `executor` runs it as it was found; the rest are its inputs."""
        options = args[5] if len(args) > 5 else kwargs.get(OPTIONS) or {}
        call = host.step_call(executor, options)
        state = state_of(call.network)
        state.unfit = _unfit(call, args[0])
        if state.unfit:
            _say(state, f"not applied: {state.unfit}")
            state.restore(call.network)
            return executor(*args, **kwargs)
        return _Step(self, executor, call, state, (args, kwargs)).result()

    def attach(self, patcher: ModelPatcher, key: str) -> None:
        """Wrap the steps of `patcher`, and undo what they leave when it goes."""
        host.wrap_steps(patcher, key, self)
        host.on_changes(patcher, key, _loaded, _detached, _cleaned)

    def calls(self, state: NetworkState, network: Any, variant: Variant) -> blocks.Calls:
        """How modules are called for compiled blocks; made once for a network."""
        if variant.compile == OFF:
            return {}
        kind, last = variant.compile, variant.channels_last or host.forces_channels_last()
        key = (kind, last, self.wishes.mode, self._backend)
        if key not in state.calls:
            # As the host's are once a LoRA has changed them: else that would be compiled anew.
            network.diffusion_model.requires_grad_(False)
            mode = inductor_mode(self.wishes.mode)
            unet = network.diffusion_model
            LOGGER.info("IPEX Optimize: compiling (%s). It may take minutes, once.", kind)
            state.calls[key] = blocks.calls(unet, kind, mode, last, self._backend)
        return state.calls[key]


def _unfit(call: host.StepCall, x: Tensor) -> str:
    if call.patcher is None or not hasattr(call.network, "diffusion_model"):
        return "it does not run under ComfyUI's sampling"
    if not host.is_whole(call.patcher):
        return "ComfyUI has loaded it partially, and copies weights in each step"
    if host.is_dynamic(call.patcher):
        return "this ComfyUI moves its weights while it runs"
    return "it is being trained" if torch.is_grad_enabled() and x.requires_grad else ""


def _loaded(patcher: ModelPatcher) -> None:
    state_of(patcher.model).loaded()


def _detached(patcher: ModelPatcher, everything: bool) -> None:
    state = state_of(patcher.model)
    if everything or state.owned_by(patcher):
        state.restore(patcher.model)


def _cleaned(patcher: ModelPatcher) -> None:
    state = state_of(patcher.model)
    state.short_of_memory = False
    held = sum(graph.held for _, graph in state.graphs.values())
    if held and held > (host.free_memory(patcher.load_device) - held) / KEPT_SHARE:
        state.graphs.clear()
        host.empty_caches()


def _say(state: NetworkState, text: str) -> None:
    if text not in state.said:
        state.said.add(text)
        LOGGER.info("IPEX Optimize: %s", text)


class _Step:
    """One step of a model, which can be run in several ways."""

    def __init__(
        self,
        optimizer: Optimizer,
        executor: Any,
        call: host.StepCall,
        state: NetworkState,
        inputs: Any,
    ) -> None:
        self.optimizer, self.executor, self.state = optimizer, executor, state
        self.network, self.patcher = call.network, call.patcher
        self.inputs = inputs
        self.x: Tensor = inputs[0][0]
        self.device = self.x.device
        self.dtype = host.compute_dtype(call.network)
        self.flat: Flat = flat(inputs)
        odd = self.flat.odd or ("code of other nodes" if call.wrapped else "")
        self.trouble = odd or state.troubles.get(self.flat.key, "")

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The plan's, without graphs where this step cannot be recorded."""
        planned = self.optimizer.plan.variants
        if self.trouble:
            planned = tuple(replace(one, graph=False) for one in planned)
        return tuple(dict.fromkeys(one for one in planned if one != FOUND))

    @property
    def key(self) -> Any:
        """What an outcome holds for."""
        size = tuple(self.x.shape)
        return (self.optimizer.wishes, str(self.device), size, self.dtype, bool(self.trouble))

    def result(self) -> Tensor:
        """The step's result, by the way that was kept for its size, or by measuring all."""
        if self.state.short_of_memory:
            return self.compute(FOUND)
        outcome = self.state.outcomes.get(self.key)
        if outcome is None and self.optimizer.wishes.verify and self.variants:
            return self._measured()
        variant = outcome.kept if outcome else next(iter(self.variants), FOUND)
        if variant.graph and self.flat.key in self.state.troubles:
            return self.compute(FOUND)
        try:
            return self.compute(variant)
        except TROUBLE as error:
            if variant == FOUND:
                raise
            self._give_up(variant, error)
            return self.compute(FOUND)

    def _give_up(self, variant: Variant, error: Exception) -> None:
        problem = trial.problem_of(error)
        if is_out_of_memory(error):
            # Other programs and other nodes come and go: the next sampling may have more.
            self.state.short_of_memory = True
        elif variant.graph:
            self.state.troubles[self.flat.key] = problem
        else:
            tried = Tried(variant, float("inf"), problem=problem)
            size = tuple(self.x.shape)
            self.state.outcomes[self.key] = Measurement(size, self.dtype, 0.0, (tried,), FOUND)
        self.state.graphs.clear()
        host.empty_caches()
        _say(self.state, f"{variant.name} is not used: {problem}")

    def compute(self, variant: Variant) -> Tensor:
        self.state.lay_out(self.network, variant.channels_last, self.patcher)
        if not variant.graph:
            return self._called(variant, rebuilt(self.inputs))
        key = (self.optimizer.wishes.mode, variant, self.flat.key)
        weights = self.state.fingerprint(self.network)
        known, graph = self.state.graphs.get(key, (None, None))
        if graph is None or known != weights:
            self.state.graphs.pop(key, None)
            graph = None  # its memory goes before the new one takes some
            self._called(variant, rebuilt(self.inputs))
            graph = StepGraph(lambda given: self._called(variant, given), self.inputs, self.device)
        self.state.keep(key, weights, graph)
        return graph(self.flat)

    def _called(self, variant: Variant, inputs: Any) -> Tensor:
        args, kwargs = inputs
        with blocks.called(self.optimizer.calls(self.state, self.network, variant)):
            result: Tensor = self.executor(*args, **kwargs)
            return result

    def _measured(self) -> Tensor:
        """The result as found, after all ways were tried and one was kept."""
        try:
            reference = self.compute(FOUND)
            seconds, _ = trial.timed(lambda: self.compute(FOUND), self.device)
            rounds = trial.rounds_for(seconds)
            times = [seconds]
            tried = self._try_all(reference, rounds, times)
            self.compute(FOUND)
            times.append(trial.fastest(lambda: self.compute(FOUND), self.device, rounds))
        except BaseException:
            self.state.restore(self.network)
            raise
        found, size = min(times), tuple(self.x.shape)
        kept = trial.choose_fastest(found, tried, self.dtype)
        outcome = Measurement(size, self.dtype, found, tuple(tried), kept)
        self.state.outcomes[self.key] = outcome
        self._drop_others(kept)
        LOGGER.info("IPEX Optimize: %s", "\n".join(outcome.lines))
        return reference

    def _try_all(self, reference: Tensor, rounds: int, times: list[float]) -> list[Tried]:
        tried: list[Tried] = []
        for variant in self.variants:
            host.check_interrupted()
            one = self._try(variant, reference, rounds, times)
            if one.problem and variant.graph:
                # What was measured so far shows what recorded steps do: there are none.
                self.state.troubles[self.flat.key] = self.trouble = one.problem
                self.state.graphs.clear()
                return [one, *self._try_all(reference, rounds, times)]
            tried.append(one)
        return tried

    def _try(self, variant: Variant, reference: Tensor, rounds: int, times: list[float]) -> Tried:
        began = time.perf_counter()
        try:
            _, result = trial.timed(lambda: self.compute(variant), self.device)
            preparing = time.perf_counter() - began
            own = []
            for number in range(rounds):
                own.append(trial.timed(lambda: self.compute(variant), self.device)[0])
                if not variant.graph and number + 1 < rounds:
                    # In turns, because a CPU's speed changes. The first call after a change of
                    # layout finds no weights in the caches, and is not counted.
                    self.compute(FOUND)
                    times.append(trial.timed(lambda: self.compute(FOUND), self.device)[0])
                    self.compute(variant)
        except TROUBLE as error:
            return Tried(variant, float("inf"), problem=trial.problem_of(error))
        difference = trial.error_of(result, reference)
        return Tried(variant, min(own), difference, max(0.0, preparing - min(own)))

    def _drop_others(self, kept: Variant) -> None:
        for key in [key for key in self.state.graphs if key[1] != kept]:
            del self.state.graphs[key]
