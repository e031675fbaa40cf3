"""The size of an upscale node's result."""

import pytest
from comfyui_ipex.nodes.upscale.sizes import Size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Size(), (80, 160)),
        (Size(scale_by=1.5), (60, 120)),
        (Size(width=100), (50, 100)),
        (Size(height=100), (100, 200)),
        (Size(width=7, height=9), (9, 7)),
    ],
)
def test_what_is_0_follows_from_the_rest_or_from_the_model(
    size: Size, expected: tuple[int, int]
) -> None:
    assert size.of(40, 80, 2) == expected


@pytest.mark.parametrize("size", [Size(width=1), Size(scale_by=0.01), Size(height=1)])
def test_no_side_is_0(size: Size) -> None:
    assert min(*size.of(1, 16384, 2), *size.of(16384, 1, 2)) >= 1
