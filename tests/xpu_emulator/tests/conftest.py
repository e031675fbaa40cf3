"""Fixtures of the emulator's own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xpu_emulator import EmulatedXpu


@pytest.fixture
def two_cards(emulated_xpu: Callable[..., EmulatedXpu]) -> EmulatedXpu:
    """Give an A770 (without fp64) and a B580 (with it)."""
    return emulated_xpu(["a770", "b580"])
