"""The size of an upscale node's result."""

import pytest
from comfyui_ipex.nodes.upscale.tiles import ResultSize


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (ResultSize(), (80, 160)),
        (ResultSize(scale_by=1.5), (60, 120)),
        (ResultSize(width=100), (50, 100)),
        (ResultSize(height=100), (100, 200)),
        (ResultSize(width=7, height=9), (9, 7)),
    ],
)
def test_what_is_0_follows_from_the_rest_or_from_the_model(
    size: ResultSize, expected: tuple[int, int]
) -> None:
    assert size.of(40, 80, 2) == expected


@pytest.mark.parametrize(
    "size", [ResultSize(width=1), ResultSize(scale_by=0.01), ResultSize(height=1)]
)
def test_no_side_is_0(size: ResultSize) -> None:
    assert min(*size.of(1, 16384, 2), *size.of(16384, 1, 2)) >= 1
