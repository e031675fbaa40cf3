"""THE table: everything that we change in a running host.

Each row replaces one function. A replacement decides by the device that the call is about and
hands every other call to the original unchanged. None is installed without an XPU, but for the
choice of a card.
"""

import dataclasses

from .. import host
from ..seam import Seam
from .attention import attention_seams
from .devices import Circumstances, device_seams, primary_seam
from .dtypes import dtype_seams
from .faults import fault_seams
from .memory import MemoryReader, memory_seams
from .transfer import transfer_seams

__all__ = ["PATCHED", "Circumstances", "seams"]

PATCHED = "this host is patched"


def seams(circumstances: Circumstances, reader: MemoryReader) -> tuple[Seam, ...]:
    """The rows, in the order of the report."""
    return tuple(_unless_patched(row) for row in _rows(circumstances, reader))


def _unless_patched(seam: Seam) -> Seam:
    """The row, not needed where the host's own source does the same since it was patched."""

    def not_needed() -> str | None:
        return PATCHED if host.covers(seam.name, seam.target) else seam.not_needed()

    return dataclasses.replace(seam, not_needed=not_needed)


def _rows(circumstances: Circumstances, reader: MemoryReader) -> tuple[Seam, ...]:
    if circumstances.xpus == 0:
        return (primary_seam(circumstances),) if circumstances.primary.index else ()
    return (
        *device_seams(circumstances),
        *memory_seams(reader),
        *attention_seams(reader, circumstances.max_allocation),
        *dtype_seams(circumstances),
        *transfer_seams(circumstances),
        *fault_seams(),
    )
