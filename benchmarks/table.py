"""THE table of suites. A suite is a module of `suites/` and a row here."""

import importlib
from collections.abc import Iterable, Sequence

from .case import BenchmarkSuite, Case

SUITES: tuple[BenchmarkSuite, ...] = (
    BenchmarkSuite("tensor", "Matrix products, memory and copies", "tensor", short=True),
    BenchmarkSuite("conv", "Convolutions of diffusion models and upscalers", "conv", short=True),
    BenchmarkSuite("attention", "Attention of SD 1.5, SDXL and Flux", "attention", short=True),
    BenchmarkSuite("sd", "Stable Diffusion through ComfyUI, random weights", "sd", host=True),
    BenchmarkSuite("optimize", "IPEX Optimize beside the model as found", "optimize", host=True),
    BenchmarkSuite(
        "upscale", "Upscaling against ComfyUI's own node", "upscale", host=True, group="nodes"
    ),
    BenchmarkSuite(
        "preprocess", "Preprocessors against controlnet_aux", "preprocess", host=True, group="nodes"
    ),
    BenchmarkSuite("workers", "Calls to a worker beside copies here", "workers", host=True),
    BenchmarkSuite("batch", "A batch on two hosts beside one", "batch", host=True),
    BenchmarkSuite("startup", "ComfyUI with this extension and without", "startup", host=True),
)


def named(names: Sequence[str]) -> list[BenchmarkSuite]:
    """The suites or groups of these names, in the table's order; all of them for no name.

    Raises `ValueError` for a name that is none.
    """
    known = {name for suite in SUITES for name in (suite.name, suite.group) if name}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"There is no suite {', '.join(unknown)}. Choose from {', '.join(sorted(known))}."
        )
    return [suite for suite in SUITES if not names or {suite.name, suite.group} & set(names)]


def suite(name: str) -> BenchmarkSuite:
    """The suite of this name. Raises `ValueError` for a name that is none."""
    return next(iter(named([name])))


def cases_of(row: BenchmarkSuite) -> list[Case]:
    """The cases of a suite; its module is imported for it."""
    module = importlib.import_module(f".suites.{row.module}", __package__)
    return list(module.cases())


def chosen(cases: Iterable[Case], quick: bool, names: Sequence[str], cpu: bool) -> list[Case]:
    """The cases to run: those whose name begins with one of `names`, else all that fit here."""
    if names:
        return [case for case in cases if case.name.startswith(tuple(names))]
    return [case for case in cases if (case.quick or not quick) and not (cpu and case.gpu_only)]


def dtypes_of(case: Case, asked: Sequence[str], cpu: bool) -> tuple[str, ...]:
    """The number formats that a case is run in."""
    if "-" in case.dtypes:
        return case.dtypes
    if asked:
        return tuple(asked)
    return ("fp32",) if cpu else case.dtypes
