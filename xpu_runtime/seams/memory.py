"""Rows: memory."""

from ..decisions import memory
from ..memory import MemoryReader
from ..seam import Seam
from .circumstances import MODEL_MANAGEMENT


def memory_seams(reader: MemoryReader) -> tuple[Seam, ...]:
    """The rows."""
    return (
        Seam(
            name="total-memory",
            target=f"{MODEL_MANAGEMENT}:get_total_memory",
            replace=memory.total_memory(reader),
            reason="a card that was not used yet ends what asks for its memory",
            not_needed=lambda: None,
        ),
        Seam(
            name="free-memory",
            target=f"{MODEL_MANAGEMENT}:get_free_memory",
            replace=memory.free_memory(reader),
            reason="memory that other programs hold counts as free, and loading a model then dies",
            not_needed=lambda: None,
        ),
        Seam(
            name="unload-all",
            target=f"{MODEL_MANAGEMENT}:unload_all_models",
            replace=memory.unload_all_models,
            reason="models stay on a second card; after a lost one the server's worker ends",
            not_needed=lambda: None,
        ),
        Seam(
            name="empty-cache",
            target=f"{MODEL_MANAGEMENT}:soft_empty_cache",
            replace=memory.soft_empty_cache,
            reason="memory stays with another maker's card; a lost card ends the server's worker",
            not_needed=lambda: None,
        ),
    )
