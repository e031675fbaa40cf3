"""Stand-ins for functions of the host, for tests of what replaces them."""

from typing import Any

ORIGINAL = object()
"""What the host's own function answers."""


class Original:
    """Stands in for the host's function and keeps its calls."""

    def __init__(self, answer: Any = ORIGINAL) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> Any:
        """The answer, raised if it is an exception."""
        self.calls.append(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
