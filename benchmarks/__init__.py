"""`ipex-benchmarks`: speed, memory and correctness of a device. docs/benchmarks.md says how.

What measures (`case.py`, `engine.py`, `meter.py`, `intervals.py`) knows no suite: suites are rows
of `table.py`, whose modules are imported by name in the process that runs them.
"""
