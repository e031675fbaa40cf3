"""Signatures: no call that the host accepts may fail, or change its meaning, at a replacement."""

import itertools
import random
import re
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Any

import pytest
from comfyui_ipex.xpu_runtime.signatures import ANYTHING, find_objection, read_signature


@pytest.mark.parametrize(
    ("original", "replacement"),
    [
        (lambda a, b=1: 0, lambda a, b=1: 0),
        (lambda a, b=1: 0, lambda a, b=1, more=None: 0),
        (lambda a, b=1: 0, lambda a, *args, **kwargs: 0),
        (lambda a, b=1: 0, lambda a, *args, b=1: 0),
        (lambda a, /: 0, lambda other: 0),
        (lambda *, b=1: 0, lambda b=1: 0),
        (lambda *, b: 0, lambda b: 0),
        (lambda *, b: 0, lambda **kwargs: 0),
        (lambda a=(1, None): 0, lambda a=(1, None): 0),
        (lambda a={}: 0, lambda a={}: 0),
    ],
)
def test_what_fits(original: Callable[..., Any], replacement: Callable[..., Any]) -> None:
    assert find_objection(read_signature(original), read_signature(replacement)) is None
    assert find_objection(read_signature(original), ANYTHING) is None


@pytest.mark.parametrize(
    ("original", "replacement", "why"),
    [
        (lambda a, b=1: 0, lambda a: 0, "does not accept 'b'"),
        (lambda a, b: 0, lambda b, a: 0, "argument 1 is 'b' but the host's is 'a'"),
        (lambda a: 0, lambda a, /: 0, "does not accept 'a' by keyword"),
        (lambda a, b=1: 0, lambda a, *args: 0, "does not accept 'b' by keyword"),
        (lambda a: 0, lambda *args, a: 0, "accepts 'a' only by keyword"),
        (lambda *, b: 0, lambda: 0, "does not accept the keyword 'b'"),
        (lambda a=1: 0, lambda a: 0, "requires 'a', which the host makes optional"),
        (lambda a=1: 0, lambda a=2: 0, "default of 'a' is 2 but the host's is 1"),
        (lambda a=1: 0, lambda a=True: 0, "default of 'a' is True but"),
        (lambda a=(1,): 0, lambda a=(2,): 0, "default of 'a'"),
        (lambda a={}: 0, lambda a=[]: 0, "default of 'a'"),
        (lambda a={1: 2}: 0, lambda a={}: 0, "default of 'a'"),
        (lambda *, a=None: 0, lambda *, a=0: 0, "default of 'a' is 0 but"),
        (lambda: 0, lambda a: 0, "requires 'a', which the host does not have"),
        (lambda: 0, lambda *, a: 0, "requires 'a', which the host does not have"),
        (lambda *args: 0, lambda: 0, r"does not accept \*args"),
        (lambda *args: 0, lambda a=1, *args: 0, r"'a' would take one of the host's \*args"),
        (lambda **kwargs: 0, lambda: 0, r"does not accept \*\*kwargs"),
        (lambda a, /, **kwargs: 0, lambda a, **kwargs: 0, "as 'a', a keyword of the host"),
    ],
)
def test_what_does_not_fit(
    original: Callable[..., Any], replacement: Callable[..., Any], why: str
) -> None:
    found = find_objection(read_signature(original), read_signature(replacement))
    assert found is not None
    assert re.search(why, found)


def test_defaults_that_cannot_be_compared_are_compared_by_identity() -> None:
    class Tensor:
        def __eq__(self, other: object) -> Any:
            raise ValueError("ambiguous")

        __hash__ = None

    one, other = Tensor(), Tensor()
    assert find_objection(read_signature(lambda a=one: 0), read_signature(lambda a=one: 0)) is None
    assert (
        find_objection(read_signature(lambda a=one: 0), read_signature(lambda a=other: 0))
        is not None
    )


KINDS = [
    Parameter.POSITIONAL_ONLY,
    Parameter.POSITIONAL_OR_KEYWORD,
    Parameter.VAR_POSITIONAL,
    Parameter.KEYWORD_ONLY,
    Parameter.VAR_KEYWORD,
]


def random_signature(chance: random.Random) -> Signature:
    names = chance.sample("abc", chance.randint(0, 3))
    kinds = sorted(chance.choice([0, 1, 3]) for _ in names)
    parameters = []
    optional = False
    for name, kind in zip(names, kinds, strict=True):
        optional = chance.random() < 0.5 or (optional and kind < 3)
        parameters.append(Parameter(name, KINDS[kind], default=0 if optional else Parameter.empty))
    if chance.random() < 0.5:
        parameters.append(Parameter("args", KINDS[2]))
    if chance.random() < 0.5:
        parameters.append(Parameter("kwargs", KINDS[4]))
    return Signature(sorted(parameters, key=lambda parameter: parameter.kind))


def every_call() -> Iterator[tuple[tuple[int, ...], dict[str, int]]]:
    for count in range(5):
        for size in range(4):
            for names in itertools.combinations("abcd", size):
                yield tuple(range(count)), {name: 10 + at for at, name in enumerate(names)}


def binds(signature: Signature, args: tuple[int, ...], kwargs: dict[str, int]) -> bool:
    # Signature.bind of older Pythons mistakes a positional-only name among **kwargs for an error.
    hidden = [
        p.replace(name=f"_{p.name}") if p.kind is Parameter.POSITIONAL_ONLY else p
        for p in signature.parameters.values()
    ]
    try:
        Signature(hidden).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def test_without_an_objection_every_call_of_the_host_fits() -> None:
    """Checked against Python's own binding, over random pairs of signatures."""
    chance = random.Random(0)
    calls = list(every_call())
    fitting = 0
    for _ in range(3000):
        host, own = random_signature(chance), random_signature(chance)
        if find_objection(host, own) is not None:
            continue
        fitting += 1
        for args, kwargs in calls:
            if binds(host, args, kwargs):
                assert binds(own, args, kwargs), (host, own, args, kwargs)
    assert fitting > 200
