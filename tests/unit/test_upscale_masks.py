"""Window transformers: their masks are made once, and half precision works with them."""

from collections.abc import Iterator
from typing import Any

import networks
import pytest
import torch
from comfyui_ipex.inference import precision
from comfyui_ipex.nodes.upscale.masks import share_masks
from torch import Tensor

MAKES = [networks.swinir, networks.real_dat]


@pytest.fixture(params=MAKES, ids=["swinir", "dat"])
def model(request: pytest.FixtureRequest) -> Iterator[Any]:
    with torch.inference_mode():
        yield request.param()


def makers(model: Any) -> list[Any]:
    return [part for part in model.model.modules() if hasattr(part, "calculate_mask")]


def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Counts the masks that are made."""
    made = []
    for kind in {type(part) for part in makers(model)}:
        original = kind.calculate_mask

        def counting(self: Any, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            made.append(args)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, "calculate_mask", counting)
    return made


def test_kept_masks_change_no_bit_and_are_made_once_for_a_size(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = precision.test_picture(3, (40, 72))
    plain = model(picture)
    made = counted(model, monkeypatch)
    with share_masks(model.model):
        assert torch.equal(model(picture), plain)
        first = len(made)
        assert torch.equal(model(picture), plain)
        assert len(made) == first
        model(precision.test_picture(3, (72, 40)))
        assert len(made) == 2 * first
    assert first < len(makers(model)) or first == 1
    model(picture)
    assert len(made) > 2 * first, "outside, the network is as it was"


def test_half_precision_works_with_kept_masks(model: Any) -> None:
    def run(dtype: torch.dtype) -> Tensor:
        model.model.to(dtype)
        with share_masks(model.model):
            return model(precision.test_picture(3).to(dtype))

    dtype, checks = precision.checked(run, [torch.bfloat16])
    assert not checks[0].reason
    assert dtype == torch.bfloat16 or checks[0].error > 2 / 255


def test_a_dtype_that_a_network_cannot_take_is_refused_with_its_reason(model: Any) -> None:
    def run(dtype: torch.dtype) -> Tensor:
        if dtype != torch.float32:
            raise RuntimeError("expected scalar type Float but found BFloat16\nmore")
        return model(precision.test_picture(3))

    dtype, checks = precision.checked(run, [torch.bfloat16])
    assert dtype == torch.float32
    assert checks[0].text == "bf16 refused: expected scalar type Float but found BFloat16"


def test_memory_that_runs_out_while_checking_is_no_refusal() -> None:
    def run(dtype: torch.dtype) -> Tensor:
        if dtype != torch.float32:
            raise torch.OutOfMemoryError("XPU out of memory")
        return torch.zeros(1)

    with pytest.raises(torch.OutOfMemoryError):
        precision.checked(run, [torch.float16])
