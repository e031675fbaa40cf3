"""Every operator of torch's own test database, on the emulated card and on the CPU."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree

# Operators that cannot run, or cannot be compared, and why. Anything else that
# fails counts against the emulator.
EXCLUDED: dict[str, str] = {
    "sparse.sampled_addmm": "sparse tensors: the emulated card has dense ones only",
    "sparse.mm.reduce": "sparse tensors: the emulated card has dense ones only",
    "to_sparse": "sparse tensors: the emulated card has dense ones only",
    "tensor_split": "torch itself demands CPU indices, and the samples move to the card",
    "as_strided.partial_views": "its samples are views of larger storages, which moving drops",
    "jiterator_unary": "CUDA's run-time compiler: no CPU result to compare with",
    "jiterator_binary": "CUDA's run-time compiler: no CPU result to compare with",
    "jiterator_binary_return_by_ref": "CUDA's run-time compiler: no CPU result to compare with",
    "jiterator_2inputs_2outputs": "CUDA's run-time compiler: no CPU result to compare with",
    "jiterator_4inputs_with_extra_args": "CUDA's run-time compiler: no CPU result to compare with",
}

# Their result is random or uninitialised: shape, type and device are compared.
VALUES_DIFFER: frozenset[str] = frozenset(
    {
        "bernoulli",
        "cauchy",
        "empty",
        "empty_like",
        "empty_permuted",
        "empty_strided",
        "exponential",
        "geometric",
        "log_normal",
        "multinomial",
        "new_empty",
        "new_empty_strided",
        "nn.functional.alpha_dropout",
        "nn.functional.dropout",
        "nn.functional.dropout2d",
        "nn.functional.dropout3d",
        "nn.functional.feature_alpha_dropout",
        "nn.functional.fractional_max_pool2d",
        "nn.functional.fractional_max_pool3d",
        "nn.functional.multi_head_attention_forward",
        "nn.functional.rrelu",
        "normal",
        "pca_lowrank",
        "rand_like",
        "randint",
        "randint_like",
        "randn",
        "randn_like",
        "svd_lowrank",
        "uniform",
    }
)


@dataclasses.dataclass
class Figures:
    """How the comparison went."""

    operators: int = 0
    agreeing: int = 0
    samples: int = 0
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def share(self) -> float:
        """Agreeing operators, 0 to 1, of those that can run."""
        return self.agreeing / self.operators

    def __str__(self) -> str:
        return (
            f"{self.agreeing} of {self.operators} operators agree ({100 * self.share:.2f} %), "
            f"{self.samples} samples; {len(EXCLUDED)} excluded; "
            f"failing: {', '.join(self.failures) or 'none'}"
        )


def name_of(op: Any) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


def _moved(value: Any, device: str) -> Any:
    def move(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            # A copy each time: operators may write to their arguments.
            return item.detach().clone().to(device)
        if isinstance(item, torch.device):
            return torch.device(device)
        return item

    return _pytree.tree_map(move, value)


def _call(op: Any, sample: Any, device: str) -> Any:
    arguments, keywords = _moved((sample.args, dict(sample.kwargs)), device)
    if "device" in keywords:
        keywords["device"] = device
    torch.manual_seed(0)
    return op(_moved(sample.input, device), *arguments, **keywords)


def _compare(expected: Any, found: Any, values: bool) -> None:
    left, right = _pytree.tree_leaves(expected), _pytree.tree_leaves(found)
    if len(left) != len(right):
        raise AssertionError(f"{len(right)} results instead of {len(left)}")
    for wanted, got in zip(left, right, strict=True):
        if not isinstance(wanted, torch.Tensor):
            if values and wanted != got and not isinstance(wanted, torch.device):
                raise AssertionError(f"{got!r} instead of {wanted!r}")
            continue
        if wanted.shape != got.shape or wanted.dtype != got.dtype:
            raise AssertionError(f"{got.dtype}{got.shape} instead of {wanted.dtype}{wanted.shape}")
        if values:
            torch.testing.assert_close(got.cpu(), wanted, equal_nan=True)


def _samples(op: Any, limit: int) -> Iterator[Any]:
    torch.manual_seed(0)
    return itertools.islice(op.sample_inputs("cpu", torch.float32), limit)


# What an operator that does not work, or a comparison that does not hold, raises.
OPERATOR_ERRORS = (RuntimeError, AssertionError, TypeError, ValueError, IndexError)


def compare_operator(op: Any, figures: Figures, samples: int, device: str) -> None:
    """Run one operator's samples on both devices; raises one of OPERATOR_ERRORS."""
    for sample in _samples(op, samples):
        expected = _call(op, sample, "cpu")
        found = _call(op, sample, device)
        random = op.name in VALUES_DIFFER or sample.kwargs.get("dropout_p", 0.0) > 0.0
        _compare(expected, found, values=not random)
        figures.samples += 1


def compare_with_cpu(samples_per_operator: int = 8, device: str = "xpu:0") -> Figures:
    """Run the database in float32 and return the figures.

    The card must have fp64: several operators compute in it internally.
    """
    figures = Figures()
    for op in op_db:
        name = name_of(op)
        if name in EXCLUDED or torch.float32 not in op.supported_dtypes("cpu"):
            continue
        figures.operators += 1
        try:
            compare_operator(op, figures, samples_per_operator, device)
        except OPERATOR_ERRORS as error:
            figures.failures[name] = f"{type(error).__name__}: {str(error)[:300]}"
        else:
            figures.agreeing += 1
    return figures


# Gradients that cannot be compared, and why.
EXCLUDED_GRADIENTS: dict[str, str] = {
    "to": "its samples move to the CPU by name",
    "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu": (
        "the CPU's own kernel, which no card runs; it misreads strided gradients there as well"
    ),
}


def _column_major(tensor: torch.Tensor) -> torch.Tensor:
    # Kernels that forget about strides give themselves away.
    return tensor if tensor.dim() < 2 else tensor.mT.contiguous().mT


def _gradients(op: Any, sample: Any, device: str) -> list[torch.Tensor | None]:
    leaves: list[torch.Tensor] = []

    def move(item: Any) -> Any:
        if not isinstance(item, torch.Tensor):
            return item
        moved = _column_major(item.detach().clone()).to(device)
        if item.requires_grad:
            leaves.append(moved.requires_grad_())
        return moved

    tree = (sample.input, sample.args, dict(sample.kwargs))
    subject, arguments, keywords = _pytree.tree_map(move, tree)
    torch.manual_seed(0)
    found = _pytree.tree_leaves(op(subject, *arguments, **keywords))
    results = [item for item in found if isinstance(item, torch.Tensor) and item.requires_grad]
    if not results:
        return []
    torch.manual_seed(1)
    seeds = [
        _column_major(torch.randn(item.shape, dtype=item.dtype)).to(device) for item in results
    ]
    gradients = torch.autograd.grad(results, leaves, seeds, allow_unused=True)
    return [None if gradient is None else gradient.cpu() for gradient in gradients]


def compare_operator_gradients(op: Any, figures: Figures, samples: int, device: str) -> None:
    """Compare one operator's gradients; raises one of OPERATOR_ERRORS."""
    torch.manual_seed(0)
    drawn = op.sample_inputs("cpu", torch.float32, requires_grad=True)
    for sample in itertools.islice(drawn, samples):
        if sample.kwargs.get("dropout_p", 0.0) > 0.0:
            continue
        try:
            expected = _gradients(op, sample, "cpu")
        except OPERATOR_ERRORS:
            continue  # some operators have no gradient, or refuse column-major inputs
        found = _gradients(op, sample, device)
        for wanted, got in zip(expected, found, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3, equal_nan=True)
        figures.samples += 1


def compare_gradients_with_cpu(samples_per_operator: int = 3, device: str = "xpu:0") -> Figures:
    """Like compare_with_cpu, for the gradients, with column-major inputs."""
    figures = Figures()
    for op in op_db:
        name = name_of(op)
        skipped = name in EXCLUDED or name in EXCLUDED_GRADIENTS or op.name in VALUES_DIFFER
        if skipped or not op.supports_autograd or torch.float32 not in op.supported_dtypes("cpu"):
            continue
        figures.operators += 1
        try:
            compare_operator_gradients(op, figures, samples_per_operator, device)
        except OPERATOR_ERRORS as error:
            figures.failures[name] = f"{type(error).__name__}: {str(error)[:300]}"
        else:
            figures.agreeing += 1
    return figures
