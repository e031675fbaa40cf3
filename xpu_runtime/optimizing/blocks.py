"""The blocks of a network, compiled one by one, for the duration of a step.

A block of each shape of weights is compiled once, for all sizes of picture, and serves all blocks
of that shape. Nothing of the network is replaced: torch's own `_compiled_call_impl`, which
`Module.compile()` sets too, is set before a step and removed after it, also after an error.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from . import norms
from .inputs import OPTIONS, without_patches
from .settings import ALL_BLOCKS, FULL, OFF

INDUCTOR = "inductor"

_SHAPES = 64
"""Compilations of one function that torch accepts: shapes of weights, dtypes and layouts."""

_TRANSFORMER = "BasicTransformerBlock"
"""The host's class in UNets. Its own code looks at its options only where they hold patches."""

_AROUND = "SpatialTransformer"
"""The host's class around one or several of them; with several it takes too long to compile."""

_RESIDUAL = "ResBlock"
"""The host's class of convolutions in UNets, in a dozen shapes."""

_IMPL = "_compiled_call_impl"

Calls = dict[nn.Module, Callable[..., Any]]


def _plain(module: nn.Module, x: Tensor, context: Any) -> Any:
    # Options of its own: the host writes to those, and the default is shared by all calls.
    return module._call_impl(x, context=context, transformer_options={})


def _plain_last(module: nn.Module, x: Tensor, context: Any) -> Any:
    result = module._call_impl(x, context=context, transformer_options={})
    return result.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else result


def _any(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return module._call_impl(*args, **kwargs)


@functools.cache
def _compiled(function: Callable[..., Any], backend: str, mode: str | None) -> Callable[..., Any]:
    """One for the process: what was compiled for a network serves the next of its shape."""
    return torch.compile(function, backend=backend, mode=mode, dynamic=True)


def calls(
    network: nn.Module,
    kind: str,
    mode: str | None,
    channels_last: bool = True,
    backend: str = INDUCTOR,
) -> Calls:
    """For each module that is to be called otherwise, how; `kind` is what is compiled.

    `channels_last` is the layout of the weights, which pictures then keep between blocks.
    """
    if kind == OFF:
        return {}
    if kind == FULL:
        whole = torch.compile(_any, backend=backend, mode=mode)
        return {network: functools.partial(_whole, whole, network)}
    found: Calls = {}
    transformers = transformer_blocks(network)
    plain = _compiled(_plain_last if channels_last else _plain, backend, mode)
    other = _compiled(_any, backend, mode)
    for module in transformers:
        found[module] = functools.partial(_transformer, plain, channels_last, module)
    for module in [] if transformers else repeated(network):
        found[module] = functools.partial(_block, other, module)
    for module in residual_blocks(network) if kind == ALL_BLOCKS else []:
        found[module] = functools.partial(_block, other, module)
    inside = {inner for module in found for inner in module.modules()}
    found.update(_norms(network, inside, backend, mode))
    return found


def residual_blocks(network: nn.Module) -> list[nn.Module]:
    """A UNet's blocks of convolutions."""
    return [one for one in network.modules() if type(one).__name__ == _RESIDUAL]


def transformer_blocks(network: nn.Module) -> list[nn.Module]:
    """A UNet's transformer blocks, with what is around them where they stand alone."""
    found: list[nn.Module] = []
    for module in network.modules():
        if type(module).__name__ == _AROUND:
            inner = list(module.get_submodule("transformer_blocks").children())
            found += [module] if len(inner) == 1 else inner
    if found:
        return found
    return [one for one in network.modules() if type(one).__name__ == _TRANSFORMER]


def _norms(network: nn.Module, inside: set[nn.Module], backend: str, mode: str | None) -> Calls:
    alone, fused = (_compiled(one, backend, mode) for one in (norms.norm, norms.norm_silu))
    found: Calls = {}
    for module in network.modules():
        if module in inside:
            continue
        if isinstance(module, nn.GroupNorm):
            found[module] = functools.partial(_norm, alone, module)
        elif norms.starts_with_norm_and_silu(module):
            found[module] = functools.partial(_norm_and_silu, fused, module)
    return found


def repeated(network: nn.Module) -> list[nn.Module]:
    """A network's blocks: the members of its outermost lists of modules of one class."""
    found: list[nn.Module] = []
    for child in network.children():
        inner = list(child.children())
        alike = len({type(one) for one in inner}) == 1 and len(inner) > 1
        if isinstance(child, nn.ModuleList) and alike:
            found += inner
        else:
            found += repeated(child)
    return found


def _transformer(
    compiled: Callable[..., Any],
    channels_last: bool,
    module: nn.Module,
    x: Tensor,
    context: Any = None,
    transformer_options: Any = None,
) -> Any:
    options = transformer_options or {}
    if without_patches(options):
        # Its options name the block, and each name would be compiled anew; so would each layout,
        # and a view.
        last = channels_last and x.dim() == 4
        x = x.contiguous(memory_format=torch.channels_last) if last else x.contiguous()
        return compiled(module, x.data, context)
    return module._call_impl(x, context=context, transformer_options=options)


def _block(compiled: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if without_patches(kwargs.get(OPTIONS) or {}):
        return compiled(module, *args, **kwargs)
    return module._call_impl(*args, **kwargs)


def _whole(compiled: Callable[..., Any], network: nn.Module, *args: Any, **kwargs: Any) -> Any:
    options = kwargs.get(OPTIONS) or {}
    if not without_patches(options):
        return network._call_impl(*args, **kwargs)
    # What stands there changes with each prompt (identifiers of conditions), and is not needed.
    needed = {k: v for k, v in options.items() if isinstance(v, Tensor) or k == "cond_or_uncond"}
    return compiled(network, *args, **{**kwargs, OPTIONS: needed})


def _norm(call: norms.Norm, module: nn.Module, x: Tensor) -> Any:
    return norms.group_norm(call, module, x) if norms.applies(module, x) else module._call_impl(x)


def _norm_and_silu(call: norms.Norm, module: nn.Module, x: Tensor) -> Any:
    parts = list(module.children())
    if not norms.applies(parts[0], x):
        return module._call_impl(x)
    x = norms.group_norm(call, parts[0], x)
    for part in parts[2:]:
        x = part(x)
    return x


def is_compiled(module: nn.Module) -> bool:
    """Whether calls of a module go to torch's compiler, ours or another pack's."""
    return getattr(module, _IMPL, None) is not None


@contextlib.contextmanager
def called(by: Calls) -> Iterator[None]:
    """Within, the modules are called as `by` says; another pack's compiled modules are left."""
    taken = [module for module in by if not is_compiled(module)]
    try:
        for module in taken:
            setattr(module, _IMPL, by[module])
        with _settings() if by else contextlib.nullcontext():
            yield
    finally:
        for module in taken:
            setattr(module, _IMPL, None)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """torch's compiler with room for all shapes of weights, which tells sizes apart."""
    import torch._dynamo
    from torch.fx.experimental import _config as symbolic

    dynamo = torch._dynamo.config
    limit = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    with contextlib.ExitStack() as stack:
        stack.enter_context(dynamo.patch({limit: _SHAPES}))
        if hasattr(symbolic, "use_duck_shape"):
            # Else two sizes that happen to be equal are taken for one: square pictures.
            stack.enter_context(symbolic.patch(use_duck_shape=False))
        yield
