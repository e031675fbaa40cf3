"""Where weight files lie."""

from pathlib import Path


class WeightFileError(ValueError):
    """A file that does not hold the weights that it should."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name} cannot be used: {reason} ({path})")
