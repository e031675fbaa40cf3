"""What applies to a model on a device, and why the rest does not. Pure decisions."""

from dataclasses import dataclass

from .settings import (
    ALL_BLOCKS,
    AUTO,
    BLOCKS,
    IPEX,
    MAX_AUTOTUNE,
    OFF,
    ON,
    PLAIN,
    OptimizeSettings,
    Skipped,
    StepPlan,
    Variant,
)

GPUS = ("cuda", "xpu")

NOT_MEASURED = "'auto' is decided by measuring, and verify is off"


@dataclass(frozen=True)
class Facts:
    """What the plan depends on. The texts say why something cannot be; "" means that it can."""

    device: str
    """The kind: cpu, cuda, xpu."""
    convolutions: int
    """2-d ones, whose weights have a memory layout."""
    batch_norms: int
    residual_blocks: bool = False
    """Whether the network has blocks of convolutions, which take longest to compile."""
    channels_last: bool = False
    """The host has the weights in this layout already (--force-channels-last)."""
    no_compiler: str = ""
    no_graphs: str = ""
    no_ipex: str = ""


def plan(wishes: OptimizeSettings, facts: Facts) -> StepPlan:
    skipped: list[Skipped] = []
    layouts = _layouts(wishes, facts, skipped)
    kinds = _kinds(wishes, facts, skipped)
    graph = _graph(wishes, facts, skipped)
    variants = [Variant(layouts[-1], kind, graph) for kind in kinds if kind != OFF]
    if OFF in kinds:
        variants += [Variant(layout, OFF, graph) for layout in reversed(layouts)]
    if wishes.fold and facts.batch_norms == 0:
        skipped.append(Skipped("fold", "the network has no BatchNorm that could be folded"))
    elif wishes.fold:
        why = "its weights belong to ComfyUI, and a LoRA would no longer fit them"
        skipped.append(Skipped("fold", why))
    if wishes.backend == IPEX:
        skipped.append(Skipped("ipex", facts.no_ipex or IPEX_AND_MODELS))
    tried = tuple(dict.fromkeys(one for one in variants if one != Variant()))
    return StepPlan(tried, tuple(skipped))


IPEX_AND_MODELS = (
    "ipex.optimize takes torch's own layer classes only, and replaces none of ComfyUI's; layers "
    "that it does take ignore a LoRA that comes later. What else it does for convolutions is "
    "channels_last, done natively"
)


def _layouts(wishes: OptimizeSettings, facts: Facts, skipped: list[Skipped]) -> list[bool]:
    wish, why = wishes.channels_last, ""
    if facts.channels_last:
        why = "the weights are in this layout already"
    elif not facts.convolutions:
        why = "the network has no 2-d convolution"
    elif wish == AUTO and not wishes.verify:
        why = NOT_MEASURED
    if why and wish != OFF:
        skipped.append(Skipped("channels_last", why))
    if why or wish == OFF:
        return [False]
    return [True] if wish == ON else [False, True]


def _kinds(wishes: OptimizeSettings, facts: Facts, skipped: list[Skipped]) -> list[str]:
    wish = wishes.compile
    if wish == OFF:
        return [OFF]
    why = facts.no_compiler
    if wish == AUTO and not wishes.verify:
        why = NOT_MEASURED
    elif wish == AUTO and facts.device not in GPUS:
        why = "on a CPU it takes minutes and rarely pays; 'blocks' tries it"
    if why:
        skipped.append(Skipped("compile", why))
        return [OFF]
    if wish != AUTO:
        return [wish]
    return [BLOCKS, ALL_BLOCKS, OFF] if facts.residual_blocks else [BLOCKS, OFF]


def _graph(wishes: OptimizeSettings, facts: Facts, skipped: list[Skipped]) -> bool:
    if wishes.mode == PLAIN:
        return False
    if wishes.mode == AUTO and facts.device != "cuda":
        if facts.device == "xpu":
            why = "graphs of XPUs were never tried on hardware; mode 'reduce-overhead' tries them"
            skipped.append(Skipped("graph", why))
        return False
    if facts.no_graphs:
        skipped.append(Skipped("graph", facts.no_graphs))
    return not facts.no_graphs


def inductor_mode(mode: str) -> str | None:
    """The mode for torch.compile: what it would do about launches is done by our own graphs."""
    return "max-autotune-no-cudagraphs" if mode == MAX_AUTOTUNE else None
