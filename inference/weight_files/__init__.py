"""Every reader of model files: archives, pickles, their limits, and casting what was read."""

from .reading import FILE_TYPES, WeightFileError, load_state_dict, load_torchscript

__all__ = ["FILE_TYPES", "WeightFileError", "load_state_dict", "load_torchscript"]
