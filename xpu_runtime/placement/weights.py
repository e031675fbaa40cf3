"""Weights that are used where they wait: torch must take them for what they are."""

from typing import Any


def make_whole(network: Any) -> None:
    """Replace the parameters of `network` that are inference tensors by halves.

    The host loads weights in inference mode and moves them outside of it ("Unload models"). A
    parameter takes on the new tensor's keys then and stays without a version counter, and what
    makes a view of it raises "Inference tensors do not track version counter". Nobody notices
    where weights are moved once more before they are used; a text encoder that is placed on the
    CPU uses them where they lie. Values are not copied, and tied parameters stay tied.
    """
    import torch

    replaced: dict[int, tuple[Any, Any]] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if type(parameter) is not torch.nn.Parameter or _is_whole(parameter):
                continue
            if id(parameter) not in replaced:
                fresh = torch.nn.Parameter(parameter.data, requires_grad=False)
                vars(fresh).update(vars(parameter))
                replaced[id(parameter)] = parameter, fresh  # the old one keeps its id
            module._parameters[name] = replaced[id(parameter)][1]


def _is_whole(parameter: Any) -> bool:
    if parameter.is_inference():
        return True
    try:
        return parameter._version >= 0
    except RuntimeError:  # there is no other way to ask
        return False
