"""Preprocessors that are networks: one module a family, each with its rows of the catalogue.

Where a method is controlnet_aux's, its hint is that of the package's detector before the detector
cuts it to 8 bits. What decides by thresholds (scribbles, AnyLine's fine lines) is cut to the same
shades, so that it decides alike.
"""
