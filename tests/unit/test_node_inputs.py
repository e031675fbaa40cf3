"""What reaches a node over links is checked as what is typed into widgets."""

from typing import Any

import hostile_pictures
import pytest
import torch
from comfyui_ipex import nodes
from comfyui_ipex.nodes.inputs import InputError, check, guarded

ROWS = {
    "required": {
        "image": ("IMAGE", {}),
        "size": ("INT", {"min": 0, "max": 64}),
        "share": ("FLOAT", {"min": 0.0, "max": 1.0}),
        "method": (["area", "bicubic"], {}),
    },
    "optional": {"mask": ("MASK", {}), "model": ("MODEL", {})},
}

HARMLESS = (
    *("one pixel", "one row", "one column", "16k wide", "16k high", "gray", "RGBA", "half"),
    *("double", "views", "below 0", "above 1", "enormous"),
)


@pytest.mark.parametrize("kind", hostile_pictures.HOSTILE)
def test_pictures_that_are_none_are_refused_with_the_reason(kind: str) -> None:
    given = {"image": hostile_pictures.pictures(kind)}
    if kind in HARMLESS:
        check(given, ROWS)
        return
    with pytest.raises(InputError, match="`image`"):
        check(given, ROWS)


def test_the_first_broken_picture_is_named_with_a_remedy() -> None:
    images = torch.rand(4, 8, 8, 3)
    images[2, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"in number 3 of 4\. .*--fp32-vae"):
        check({"image": images}, ROWS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("size", value) for value in (-1, 65, 1 << 80, float("nan"), True, "8", None)),
        *(("share", value) for value in (float("nan"), float("inf"), -0.1, 1.1, None, [])),
        *(("method", value) for value in ("none", "", None, 3)),
        *(("mask", value) for value in (torch.empty(0, 4, 4), torch.rand(2, 3, 4, 4), "x")),
        ("mask", torch.full((1, 4, 4), torch.inf)),
        ("image", None),
    ],
)
def test_values_beyond_a_widget_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"`{name}`"):
        check({name: value}, ROWS)


def test_what_is_within_the_limits_passes() -> None:
    picture, mask = torch.rand(1, 4, 4, 3), torch.rand(4, 4)
    good = {"image": picture, "size": 64, "share": 0.5, "method": "area", "mask": mask}
    check({**good, "model": None}, ROWS)
    check({**good, "mask": None, "share": 1}, ROWS)


class Node:
    """A node that judges one of its inputs itself."""

    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (the host's name)
        return {"required": {"device": (["cpu"], {}), "size": ("INT", {"max": 4})}}

    @classmethod
    def VALIDATE_INPUTS(cls, device: str) -> bool | str:  # noqa: N802 (the host's name)
        return True if device in ("cpu", "xpu:7") else f"{device!r} is no device."

    def run(self, device: str, size: int = 2, **options: Any) -> tuple[Any, ...]:
        return device, size, options


def test_a_guarded_node_runs_as_before_and_judges_what_it_judged() -> None:
    node = guarded(type("Own", (Node,), {}))
    assert guarded(node)().run("xpu:7", more=1) == ("xpu:7", 2, {"more": 1})
    with pytest.raises(InputError, match="'/etc' is no device"):
        node().run("/etc")
    with pytest.raises(InputError, match="`size` is 5"):
        node().run("cpu", size=5)
    assert Node().run("/etc", 5) == ("/etc", 5, {})


def test_inputs_that_a_node_takes_together_are_checked_under_whatever_name() -> None:
    class Together(Node):
        FUNCTION = "together"

        def together(self, **wishes: Any) -> dict[str, Any]:
            return wishes

    node = guarded(Together)
    assert node().together(device="cpu", size=4) == {"device": "cpu", "size": 4}
    with pytest.raises(InputError, match="`size` is 5"):
        node().together(device="cpu", size=5)


def test_every_node_of_this_extension_is_guarded() -> None:
    for name, node in nodes.NODE_CLASS_MAPPINGS.items():
        assert hasattr(getattr(node, node.FUNCTION), "__wrapped__"), name
