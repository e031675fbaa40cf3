"""BatchNorm folded into the convolution before it, in networks that nobody patches."""

from typing import cast

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_PAIRS = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))

# What tracing a network with torch.fx may stop with: code that looks at numbers or sizes.
_UNTRACEABLE = (
    fx.proxy.TraceError,
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    AssertionError,
    NameError,
)


def fold(network: nn.Module) -> int:
    """Fold every BatchNorm that follows a convolution alone, and return how many were folded.

    The network computes the same to rounding. Each such BatchNorm becomes an `Identity`, so its
    weights are no longer where they were: for networks of which nobody else has a handle.
    """
    folded = 0
    for conv_name, norm_name in pairs(network):
        conv = cast(nn.Conv2d, network.get_submodule(conv_name))
        norm = cast(nn.BatchNorm2d, network.get_submodule(norm_name))
        fused = fuse_conv_bn_eval(conv, norm)
        conv.weight, conv.bias = fused.weight, fused.bias
        parent, _, name = norm_name.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())
        folded += 1
    return folded


def pairs(network: nn.Module, prefix: str = "") -> list[tuple[str, str]]:
    """The names of convolutions and of the BatchNorm that alone takes each one's result.

    A part that torch.fx cannot follow is looked at in smaller parts.
    """
    if not any(_is_norm(module) for module in network.modules()):
        return []
    try:
        graph = fx.Tracer().trace(network)
    except _UNTRACEABLE:
        return [
            pair
            for name, part in network.named_children()
            for pair in pairs(part, f"{prefix}{name}.")
        ]
    parts = dict(network.named_modules())
    calls = [node for node in graph.nodes if node.op == "call_module"]
    found = []
    for node in calls:
        before = node.args[0] if len(node.args) == 1 else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        conv, norm = parts[str(before.target)], parts[str(node.target)]
        # A module that is called twice, or whose result is also used elsewhere, stays.
        alone = len(before.users) == 1 and _once(calls, before) and _once(calls, node)
        if alone and _foldable(conv, norm):
            found.append((f"{prefix}{before.target}", f"{prefix}{node.target}"))
    return found


def _once(calls: list[fx.Node], node: fx.Node) -> bool:
    return sum(one.target == node.target for one in calls) == 1


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, tuple(norm for _, norm in _PAIRS))


def _foldable(conv: nn.Module, norm: nn.Module) -> bool:
    if not any(type(conv) is kind and type(norm) is other for kind, other in _PAIRS):
        return False
    statistics = norm.running_mean
    hooked = any((conv._forward_hooks, conv._forward_pre_hooks, norm._forward_hooks))
    return isinstance(statistics, torch.Tensor) and not norm.training and not hooked
