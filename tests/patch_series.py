"""What patches/ holds."""

import re

from conftest import REPOSITORY

FOLDER = REPOSITORY / "patches"

SERIES = (FOLDER / "series").read_text(encoding="utf-8").split()

TOUCHED = [
    line.split("  ")[1] for line in (FOLDER / "touched.sha256").read_text("utf-8").splitlines()
]


def text_of(name: str) -> str:
    """One patch."""
    return (FOLDER / name).read_text(encoding="utf-8")


def lines_of(name: str, kind: str) -> list[str]:
    """The lines that a patch adds ("+") or removes ("-")."""
    return [
        line[1:]
        for line in text_of(name).splitlines()
        if line.startswith(kind) and not line.startswith(kind * 3)
    ]


def named_rows() -> set[str]:
    """The rows of the table that the series names."""
    return {row for name in SERIES for row in re.findall(r'on_xpu\("([^"]+)"\)', text_of(name))}
