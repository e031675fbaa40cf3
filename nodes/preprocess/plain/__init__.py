"""Preprocessors without weights, batched in torch."""
