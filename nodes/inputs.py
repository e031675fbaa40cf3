"""What reaches a node is checked before the node runs.

The host checks what is typed into widgets against their limits (all but NaN, which is neither too
small nor too large); what comes over a link, from another node of any pack, it hands on as it is.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

_GUARDED = "_ipex_guarded"

_CHANNELS = (1, 3, 4)

_NUMBERS = ("INT", "FLOAT", "BOOLEAN")


class InputError(ValueError):
    """A picture, mask or widget's value that no node can use."""


def guarded(node: Any) -> Any:
    """`node`, a V1 class, with its function checking what it is given; raises `InputError` then.

    Pictures and masks are checked by their sockets' types, numbers by the widgets' limits, menus
    by their entries, and the inputs that the class's own VALIDATE_INPUTS judges by that.
    """
    call = getattr(node, node.FUNCTION)
    if getattr(call, _GUARDED, None) is node:
        return node
    signature = inspect.signature(call)
    rest = next(
        (one.name for one in signature.parameters.values() if one.kind is one.VAR_KEYWORD), ""
    )
    own = _judged_by(node)

    @functools.wraps(call)
    def checked(*arguments: Any, **named: Any) -> Any:
        given = dict(signature.bind(*arguments, **named).arguments)
        _ask(node, {name: given[name] for name in own if name in given})
        check({**given, **given.pop(rest, {})}, node.INPUT_TYPES(), own)
        return call(*arguments, **named)

    setattr(checked, _GUARDED, node)
    setattr(node, node.FUNCTION, checked)
    return node


def _judged_by(node: Any) -> frozenset[str]:
    validate = getattr(node, "VALIDATE_INPUTS", None)
    return frozenset() if validate is None else frozenset(inspect.signature(validate).parameters)


def _ask(node: Any, judged: Mapping[str, Any]) -> None:
    """Raise `InputError` if the class's own VALIDATE_INPUTS refuses these values."""
    if judged:
        answer = node.VALIDATE_INPUTS(**judged)
        if answer is not True:
            raise InputError(str(answer))


def check(
    given: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Any]],
    left_out: frozenset[str] = frozenset(),
) -> None:
    """Raise `InputError` for the first value of `given` that does not go with `inputs`.

    Those are a node's INPUT_TYPES. None stands for an optional socket without a link.
    """
    rows = [
        (name, row, section)
        for section in ("required", "optional")
        for name, row in inputs.get(section, {}).items()
        if name in given and name not in left_out
    ]
    for name, row, section in rows:
        kind, limits = row[0], row[1] if len(row) > 1 else {}
        if given[name] is None:
            if section == "required" or isinstance(kind, list) or kind in _NUMBERS:
                raise InputError(f"`{name}` is None: the node before this one gives nothing there.")
        elif isinstance(kind, list):
            _check_choice(name, given[name], kind)
        elif kind in _CHECKS:
            _CHECKS[kind](name, given[name], limits)


def check_pictures(name: str, images: Any, limits: Mapping[str, Any]) -> None:
    """Raise `InputError` unless these are pictures: floats [B, H, W, 1, 3 or 4], all finite."""
    shape = _shape_of(name, images)
    if len(shape) != 4 or shape[-1] not in _CHANNELS:
        raise InputError(
            f"`{name}` is a tensor of shape {shape}, not pictures [number, height, width, "
            "channels] with 1, 3 or 4 channels. The node before this one gives something else."
        )
    if 0 in shape:
        raise InputError(
            f"`{name}` holds nothing: {shape[0]} picture(s) of {shape[2]}x{shape[1]}. The node "
            "before this one found none, or cut everything away."
        )
    if not images.is_floating_point():
        raise InputError(
            f"`{name}` holds {images.dtype}, and pictures are floating-point numbers of 0 to 1. "
            "The node before this one should divide by 255."
        )
    _check_finite(name, images)


def check_masks(name: str, masks: Any, limits: Mapping[str, Any]) -> None:
    """Raise `InputError` unless these are masks: [H, W], [B, H, W] or [B, 1, H, W], finite."""
    shape = _shape_of(name, masks)
    if len(shape) not in (2, 3, 4) or (len(shape) == 4 and shape[1] != 1) or masks.is_complex():
        raise InputError(
            f"`{name}` is a tensor of shape {shape}, not masks [number, height, width]."
        )
    if 0 in shape:
        raise InputError(f"`{name}` is empty: a tensor of shape {shape}.")
    _check_finite(name, masks)


def _shape_of(name: str, value: Any) -> tuple[int, ...]:
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "is_floating_point"):
        raise InputError(f"`{name}` is a {type(value).__name__}, not a tensor.")
    return tuple(shape)


def _check_finite(name: str, values: Any) -> None:
    if not values.is_floating_point():
        return
    least, most = (float(one) for one in values.aminmax())  # NaN comes through
    if math.isfinite(least) and math.isfinite(most):
        return
    broken = [index for index, one in enumerate(values) if not bool(one.isfinite().all())]
    raise InputError(
        f"`{name}` holds numbers that are none (NaN or infinite), first in number {broken[0] + 1} "
        f"of {len(values)}. A model before this node has overflowed: try another precision for it, "
        "--fp32-vae or --force-fp32 for example."
    )


def _check_number(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    least, most = limits.get("min", -math.inf), limits.get("max", math.inf)
    is_number = type(value) in (int, float) and not math.isnan(value)
    if not is_number or not least <= value <= most or math.isinf(value):
        raise InputError(
            f"`{name}` is {str(value)[:40]}, and must be a number of {least} to {most}."
        )


def _check_choice(name: str, value: Any, choices: list[Any]) -> None:
    if value not in choices:
        raise InputError(
            f"`{name}` is {str(value)[:80]!r}, which is not in its list. There are: "
            f"{', '.join(map(str, choices[:12]))}{', ...' if len(choices) > 12 else ''}."
        )


_CHECKS: Mapping[str, Callable[[str, Any, Mapping[str, Any]], None]] = {
    "IMAGE": check_pictures,
    "MASK": check_masks,
    "INT": _check_number,
    "FLOAT": _check_number,
}
