"""What a user asks of an optimisation, and the ways to run a step that come of it."""

from dataclasses import dataclass

AUTO, ON, OFF, KEEP = "auto", "on", "off", "keep"
BLOCKS, ALL_BLOCKS, FULL = "blocks", "all blocks", "full"
NATIVE, IPEX = "native", "ipex"
PLAIN, REDUCE_OVERHEAD, MAX_AUTOTUNE = "default", "reduce-overhead", "max-autotune"

BACKENDS = [AUTO, NATIVE, IPEX]
DTYPES = [AUTO, KEEP, "fp16", "bf16"]
SWITCH = [AUTO, ON, OFF]
COMPILES = [AUTO, OFF, BLOCKS, ALL_BLOCKS, FULL]
MODES = [AUTO, PLAIN, REDUCE_OVERHEAD, MAX_AUTOTUNE]


@dataclass(frozen=True)
class OptimizeSettings:
    """The widgets of IPEX Optimize."""

    backend: str = AUTO
    dtype: str = AUTO
    channels_last: str = AUTO
    compile: str = AUTO
    mode: str = AUTO
    fold: bool = True
    verify: bool = True


@dataclass(frozen=True)
class Variant:
    """A way to run a step of the model. The default is the way that it was found."""

    channels_last: bool = False
    """The weights of convolutions lie in memory with their channels last."""
    compile: str = OFF
    graph: bool = False
    """The step is recorded once for a size, and then repeated by the device alone."""

    @property
    def name(self) -> str:
        """In words: "channels_last + blocks + graph"."""
        parts = ["channels_last"] if self.channels_last else []
        parts += [self.compile] if self.compile != OFF else []
        parts += ["graph"] if self.graph else []
        return " + ".join(parts) or "as found"


FOUND = Variant()


@dataclass(frozen=True)
class Skipped:
    what: str
    why: str

    @property
    def text(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True)
class StepPlan:
    """What is to be tried, what is already settled, and what is left out."""

    variants: tuple[Variant, ...]
    """Each other than `FOUND`; the first one serves where nothing is measured."""
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()
