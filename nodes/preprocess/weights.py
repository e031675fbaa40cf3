"""Where weight files lie, and how they are read."""

from ..inference.weight_files import WeightFileError, load_state_dict

__all__ = ["WeightFileError", "load_state_dict"]
