"""Steps of ComfyUI's UNets as IPEX Optimize runs them, beside the same steps as they were found.

Weights are random. A step takes two latents, as a prompt and a negative prompt do. Both sides have
a network of their own, because the node may change how weights lie in memory. What the node tried
and how long it took to be ready is among the facts; torch's caches on disk are off for that.
"""

import copy
import functools
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from ...xpu_runtime.host.types import ModelPatcher
from ...xpu_runtime.optimizing import OptimizeSettings, optimize
from ...xpu_runtime.optimizing.layout import lay_out
from ...xpu_runtime.optimizing.settings import BLOCKS, FULL, ON
from ...xpu_runtime.optimizing.trial import error_of, fastest, timed
from ..case import Case, CaseSettings, Side, Trial
from ..peaks import torch_dtype
from .sd_models import LoadedFamily, load_family

SIZES = (("tiny", 64), ("SD 1.5", 512), ("SD 1.5", 1024))
"""Families of `sd_models`, and pixels on each side of a picture."""

_BATCH = 2

_CHANGE = 0.02
"""How large the differences are that stand for a LoRA."""


def cases() -> list[Case]:
    made = []
    for family, side in SIZES:
        rest = {"quick": family == "tiny", "gpu_only": family != "tiny"}
        given = (family, side)
        for name, measures, make in (
            ("IPEX Optimize", "a step as the node runs it by default", _node),
            ("IPEX Optimize and a LoRA", "the same after weights have changed", _with_lora),
            ("channels_last", "the bare network in the other memory layout", _channels_last),
            ("blocks", "compiled blocks beside the network compiled as a whole", _blocks),
            ("torch.compile", "torch's own whole-network compilation, reduce-overhead", _compiled),
            ("ipex.optimize", "Intel's archived extension, where it is installed", _ipex),
        ):
            apart = make in (_blocks, _compiled, _ipex)
            alone = {"quick": False, "gpu_only": True} if apart else rest
            call = functools.partial(make, *given)
            made.append(Case(f"{family} step {side}x{side} {name}", measures, call, **alone))
    return made


def _pair(family: str, settings: CaseSettings) -> tuple[LoadedFamily, ModelPatcher]:
    """The family's model, and a second one with the same weights."""
    if settings.tree is None:
        raise ValueError("This suite needs ComfyUI: name its folder with --tree.")
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    # What the case before has loaded may have changed the weights.
    import_module("comfy.model_management").unload_all_models()
    found = load_family(family, settings.tree, torch_dtype(settings.dtype))
    second = found.model.clone()
    second.model = copy.deepcopy(found.model.model)
    return found, second


def graphs_compiled() -> int:
    """Graphs that torch has compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"].get("unique_graphs", 0))


def _inputs(
    found: LoadedFamily, side: int, settings: CaseSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and conditioning."""
    source = torch.Generator().manual_seed(0)
    latents = torch.randn(_BATCH, 4, side // 8, side // 8, generator=source)
    context = torch.randn(_BATCH, 77, found.family.unet["context_dim"], generator=source)
    return latents.to(settings.device), context.to(settings.device)


def _stepper(
    patcher: ModelPatcher, found: LoadedFamily, side: int, settings: CaseSettings
) -> Callable[[], torch.Tensor]:
    """A step as the host's sampling makes it, wrappers included, on inputs that stay the same."""
    import_module("comfy.model_management").load_models_gpu([patcher], force_full_load=True)
    latents, context = _inputs(found, side, settings)
    sigma = torch.full((_BATCH,), 7.0, device=settings.device)
    options = {"wrappers": patcher.wrappers, "cond_or_uncond": [1, 0], "sigmas": sigma[:1]}
    patcher.pre_run()

    def step() -> torch.Tensor:
        apply = patcher.model.apply_model
        return apply(latents, sigma, c_crossattn=context, transformer_options=dict(options))

    return step


def _node(family: str, side: int, settings: CaseSettings) -> Trial:
    found, second = _pair(family, settings)
    done = optimize(second, OptimizeSettings(), (_BATCH, side // 8, side // 8))
    return _trial(found, found.model, done.model, side, settings, done.text)


def _with_lora(family: str, side: int, settings: CaseSettings) -> Trial:
    found, second = _pair(family, settings)
    size = (_BATCH, side // 8, side // 8)
    # What it compiled must serve the changed weights too.
    optimize(second, OptimizeSettings(), size)
    before = graphs_compiled()
    done = optimize(second, OptimizeSettings(), size)
    plain = found.model.clone()
    for one in (plain, done.model):
        one.add_patches(_changes(found))
    trial = _trial(found, plain, done.model, side, settings, done.text)
    trial.ours.call()
    compiled = graphs_compiled() - before
    facts = trial.facts
    return Trial(
        trial.ours,
        trial.against,
        expected=trial.expected,
        differ=error_of,
        facts=lambda: {**(facts() if facts else {}), "graphs compiled for the LoRA": compiled},
        keep=trial.keep,
    )


def _changes(found: LoadedFamily) -> dict[str, Any]:
    source = torch.Generator().manual_seed(1)
    weights = found.model.model.state_dict()
    return {
        name: ("diff", (torch.randn(value.shape, generator=source) * _CHANGE,))
        for name, value in weights.items()
        if name.endswith("to_q.weight")
    }


def _trial(
    found: LoadedFamily,
    plain: ModelPatcher,
    optimised: ModelPatcher,
    side: int,
    settings: CaseSettings,
    said: str,
) -> Trial:
    theirs = _stepper(plain, found, side, settings)
    ours = _stepper(optimised, found, side, settings)
    return Trial(
        Side("IPEX Optimize", ours),
        Side("as found", theirs),
        expected=theirs,
        differ=error_of,
        facts=lambda: {
            "report": " / ".join(said.split("\n")),
            "graphs compiled": graphs_compiled(),
        },
        keep=(plain, optimised),
    )


def _blocks(family: str, side: int, settings: CaseSettings) -> Trial:
    """Both as the node applies them unmeasured; how long each took to be ready, at two sizes."""
    found, second = _pair(family, settings)
    wanted = _stepper(found.model, found, side, settings)().clone()
    facts: dict[str, Any] = {
        "compiler started after": _ready(_start_of_the_compiler(settings), settings)
    }
    sides = {}
    for kind, patcher in ((BLOCKS, second), (FULL, found.model)):
        made = optimize(
            patcher, OptimizeSettings(channels_last=ON, compile=kind, verify=False)
        ).model
        before = graphs_compiled()
        for name, pixels in (("", side), (" at another size", side * 3 // 2)):
            facts[f"{kind} ready{name} after"] = _ready(
                _stepper(made, found, pixels, settings), settings
            )
        facts[f"graphs of {kind}"] = graphs_compiled() - before
        if not facts[f"graphs of {kind}"]:
            raise RuntimeError(f"Nothing was compiled for {kind!r}: the log says why.")
        sides[kind] = Side(kind, _stepper(made, found, side, settings))
    return Trial(
        sides[BLOCKS],
        sides[FULL],
        expected=lambda: wanted,
        differ=error_of,
        facts=lambda: facts,
        keep=(found, second),
    )


def _start_of_the_compiler(settings: CaseSettings) -> Callable[[], torch.Tensor]:
    """What torch's compiler takes to be loaded belongs to neither side."""
    numbers = torch.ones(64, device=settings.device)
    return functools.partial(torch.compile(torch.sin), numbers)


def _ready(step: Callable[[], torch.Tensor], settings: CaseSettings) -> str:
    """How long the first call takes beyond what later ones do."""
    first, _ = timed(step, settings.device)
    return f"{max(0.0, first - fastest(step, settings.device, 3)):.1f} s"


def _bare(
    family: str,
    side: int,
    settings: CaseSettings,
    change: Callable[[torch.nn.Module], tuple[str, Callable[..., torch.Tensor]]],
) -> Trial:
    """The bare network, beside a copy that `change` names and makes."""
    found, second = _pair(family, settings)
    management = import_module("comfy.model_management")
    management.load_models_gpu([found.model, second], force_full_load=True)
    latents, context = _inputs(found, side, settings)
    dtype = found.model.model_dtype()
    given = {"context": context.to(dtype), "timesteps": torch.full((_BATCH,), 500.0).to(latents)}
    network = found.model.model.diffusion_model
    name, made = change(second.model.diffusion_model)
    return Trial(
        Side(name, lambda: made(latents.to(dtype), **given)),
        Side("as found", lambda: network(latents.to(dtype), **given)),
        expected=lambda: network(latents.to(dtype), **given),
        differ=error_of,
        facts=lambda: {"graphs compiled": graphs_compiled()},
        keep=(found, second),
    )


def _channels_last(family: str, side: int, settings: CaseSettings) -> Trial:
    def change(network: torch.nn.Module) -> tuple[str, Callable[..., torch.Tensor]]:
        lay_out(network, True)
        return "channels_last", network

    return _bare(family, side, settings, change)


def _compiled(family: str, side: int, settings: CaseSettings) -> Trial:
    def change(network: torch.nn.Module) -> tuple[str, Callable[..., torch.Tensor]]:
        compiled = torch.compile(network, mode="reduce-overhead", dynamic=False)
        # Results lie in memory of the recorded graph, which the next call writes anew.
        return "torch.compile", lambda *args, **named: compiled(*args, **named).clone()

    return _bare(family, side, settings, change)


def _ipex(family: str, side: int, settings: CaseSettings) -> Trial:
    def change(network: torch.nn.Module) -> tuple[str, Callable[..., torch.Tensor]]:
        ipex = import_module("intel_extension_for_pytorch")
        return "ipex.optimize", ipex.optimize(network.eval())

    return _bare(family, side, settings, change)
