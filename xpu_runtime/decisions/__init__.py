"""Replacements of the host's functions: each a factory that gets the original.

Every one decides by the device of the call, and hands calls about other devices to the
original with the same arguments. `seams/` names where each one goes.
"""
