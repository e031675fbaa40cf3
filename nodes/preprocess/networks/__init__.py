"""Preprocessors that are networks: one module a family, each with its rows of the catalogue."""
