"""Jobs from a table: a row is a job, a column sets an input of the workflow.

`3.seed`, `KSampler.seed` and `My sampler.seed` name an input by its node's id, class or title. With
"@" in front (`@LoadImage.image`) the cells name files of this machine, from the table's folder on,
which are sent to the server. The column `job` names jobs; without it they are numbered. An empty
cell, or null, leaves what the workflow has.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import BatchInputError
from .jobs import Job, check_names
from .workflow import Json, Target, Workflow

NAME_COLUMN = "job"
FILE_MARK = "@"
_YES = ("true", "yes", "on", "1")
_NO = ("false", "no", "off", "0")


@dataclass(frozen=True)
class Row:
    line: int
    cells: Mapping[str, Json]
    """By column; text in a CSV file, any JSON value in JSON lines."""


def read_table(path: Path, workflow: Workflow) -> list[Job]:
    """The jobs of a table, in its order. Raises `BatchInputError` with the line that is wrong."""
    rows = list(_rows(path))
    if not rows:
        raise BatchInputError(f"{path} has no rows.")
    columns = {name for row in rows for name in row.cells if name != NAME_COLUMN}
    targets = {name: workflow.find(name.removeprefix(FILE_MARK)) for name in sorted(columns)}
    twice = [name for name in targets if list(targets.values()).count(targets[name]) > 1]
    if twice:
        raise BatchInputError(
            f"{path}: the columns {', '.join(twice)} set the same input. Keep one."
        )
    width = max(4, len(str(len(rows))))
    jobs = []
    for number, row in enumerate(rows, 1):
        try:
            jobs.append(_job(row, workflow, targets, path.parent, f"{number:0{width}}"))
        except BatchInputError as error:
            raise BatchInputError(f"{path}, line {row.line}: {error}") from error
    check_names(jobs)
    return jobs


def _job(
    row: Row, workflow: Workflow, targets: Mapping[str, Target], folder: Path, number: str
) -> Job:
    values: dict[Target, Json] = {}
    files: dict[Target, Path] = {}
    for column, cell in row.cells.items():
        if column == NAME_COLUMN or cell is None or cell == "":
            continue
        target = targets[column]
        if column.startswith(FILE_MARK):
            found = folder / str(cell)
            if not found.is_file():
                raise BatchInputError(f"{column}: there is no file {found}.")
            files[target], values[target] = found.resolve(), str(cell)
        else:
            values[target] = convert(workflow.value(target), cell, column)
    name = row.cells.get(NAME_COLUMN)
    name = number if name is None or name == "" else str(name)
    return Job(name, workflow.with_values(values), files)


def convert(present: Json, cell: Json, column: str) -> Json:
    """`cell` in the kind of the value that the workflow has there. Raises `BatchInputError`."""
    if isinstance(present, bool):
        return _truth(cell, column)
    if isinstance(present, int | float):
        return _number(present, cell, column)
    if isinstance(present, str):
        return cell if isinstance(cell, str) else json.dumps(cell)
    if not isinstance(cell, str):
        return cell
    try:
        parsed: Json = json.loads(cell)
    except ValueError:
        return cell
    return parsed


def _truth(cell: Json, column: str) -> bool:
    text = str(cell).strip().lower()
    if text in _YES or text in _NO:
        return text in _YES
    raise BatchInputError(f"{column}: {cell!r} is neither true nor false.")


def _number(present: float, cell: Json, column: str) -> float:
    # The page writes 8.0 as 8, so that a whole number there may stand for any.
    for kind in (int, float) if isinstance(present, int) else (float,):
        try:
            number = kind(str(cell).strip())
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    raise BatchInputError(f"{column}: {cell!r} is no number; the workflow has {present!r} there.")


def _rows(path: Path) -> Iterator[Row]:
    kinds = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    read = kinds.get(path.suffix.lower())
    if read is None:
        raise BatchInputError(f"{path}: a table is a file .csv or .jsonl (JSON lines).")
    try:
        yield from read(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BatchInputError(f"{path} cannot be read: {error}") from error


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = [name.strip() for name in next(reader, [])]
        if not header or "" in header or len(set(header)) < len(header):
            raise BatchInputError(f"{path}: the first line must name every column, each once.")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise BatchInputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells for {len(header)} "
                    "columns. A text with a comma stands in double quotes."
                )
            yield Row(reader.line_num, dict(zip(header, cells, strict=True)))


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                cells = json.loads(line)
            except ValueError as error:
                raise BatchInputError(f"{path}, line {number}: no JSON: {error}") from error
            if not isinstance(cells, dict):
                raise BatchInputError(f"{path}, line {number}: a row is a JSON object.")
            yield Row(number, cells)
