"""The suites. Each module has `cases() -> list[Case]`, and a row in `..table`."""
