"""Processes that this one starts and ends."""
