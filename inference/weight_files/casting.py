"""Networks that compute in one dtype and are called in any other."""

from typing import Any

from torch import Tensor, nn


def attach(module: nn.Module) -> None:
    """Have `module` take floats of any dtype, and give back the dtype of its first argument.

    The weights' dtype is looked at in each call: it may be changed later.
    """
    casting = _Casting()
    module.register_forward_pre_hook(casting.before)
    module.register_forward_hook(casting.after)


class _Casting:
    """Two hooks of one module, and what the first leaves for the second."""

    def __init__(self) -> None:
        self._given: Any = None

    def before(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs in the dtype of the weights."""
        weight = next(module.parameters(), None)
        self._given = inputs[0].dtype
        if weight is None or weight.dtype == self._given:
            return inputs
        return tuple(_cast(value, weight.dtype) for value in inputs)

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """The output in the dtype that was given."""
        return _cast(output, self._given)


def _cast(value: Any, dtype: Any) -> Any:
    """`value` with every float tensor in it, in lists, tuples and mappings too, in `dtype`."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, list | tuple):
        return type(value)(_cast(part, dtype) for part in value)
    if isinstance(value, dict):
        return {name: _cast(part, dtype) for name, part in value.items()}
    return value
