"""The size of what comes out of an upscale node."""

from dataclasses import dataclass

METHODS = ["bicubic", "bilinear", "area", "nearest-exact"]
"""Ways to bring a model's result to another size than its own."""


@dataclass(frozen=True)
class ResultSize:
    """The size that the user wants; what is 0 follows from the rest, or from the model."""

    scale_by: float = 0.0
    width: int = 0
    height: int = 0
    method: str = METHODS[0]

    def of(self, height: int, width: int, scale: int) -> tuple[int, int]:
        """Height and width of the result for a picture of this size."""
        if self.width or self.height:
            factor = self.width / width if self.width else self.height / height
        else:
            factor = self.scale_by or scale
        rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
        return self.height or rows, self.width or columns
