"""Rows of a table with the lines at which they stand: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from trainables.data.datasets.folders import is_utf8
from trainables.errors import BadInput, Problem, os_reason

DELIMITERS = ",;\t"
"""Delimiters of a .csv file; a spreadsheet writes semicolons where commas are in numbers."""


class Row(NamedTuple):
    """Values of the wanted columns, as text without spaces around it; "" for none. `line` counts from 1."""

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """All columns of a table, in the order of the file, and its rows, which have the wanted ones.

    `name` is that of the file in messages, relative to the working folder if it is below that.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


Parsed = tuple[tuple[str, ...], list[Row]]
"""Columns and rows."""


def read_table(file: Path, wanted: Collection[str]) -> Table:
    """Reads the `wanted` columns of a table, in the format of its ending. In a Parquet file, which has no lines, rows
    are counted.

    Raises BadInput with every malformed line, or if the file cannot be read.
    """
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise BadInput(Problem("file", f"a table with the ending {', '.join(READERS)}", f"'{file}'"))
    try:
        columns, rows = reader(file, wanted)
    except OSError as error:
        raise BadInput(Problem("file", "a table that can be read", f"'{file}': {os_reason(error)}")) from error
    except BadInput as bad:
        raise BadInput(replace(problem, file=name_of(file)) for problem in bad.problems) from bad
    if not rows:
        raise BadInput(Problem("", "a header and rows", "no rows", name_of(file)))
    return Table(name_of(file), columns, tuple(rows))


def name_of(file: Path) -> str:
    """A file's path for a message, relative to the working folder if it is below that."""
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _read_csv(file: Path, wanted: Collection[str]) -> Parsed:
    text = _text(file)
    header = text.partition("\n")[0]
    return _delimited(text, max(DELIMITERS, key=header.count), wanted)


def _read_tsv(file: Path, wanted: Collection[str]) -> Parsed:
    return _delimited(_text(file), "\t", wanted)


def _delimited(text: str, delimiter: str, wanted: Collection[str]) -> Parsed:
    lines = list(_split_lines(text, delimiter))
    if not lines:
        return (), []
    (_, header), *rest = lines
    columns = tuple(name.strip() for name in header)
    problems = [Problem("", "columns with different names", ", ".join(header), line=1)] * (
        len(set(columns)) < len(columns)
    )
    problems += [
        Problem("", f"{len(columns)} fields, as in the header", str(len(fields)), line=line)
        for line, fields in rest
        if len(fields) != len(columns)
    ]
    if problems:
        raise BadInput(first_of(problems))
    kept = [(place, column) for place, column in enumerate(columns) if column in wanted]
    return columns, [Row(line, {column: fields[place].strip() for place, column in kept}) for line, fields in rest]


def _split_lines(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line and the fields of each record that is not blank; a quoted field may have several lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadInput(Problem("", "fields of a table", str(error), line=line)) from error
        if any(field.strip() for field in fields):
            yield line, fields


def _read_json_lines(file: Path, wanted: Collection[str]) -> Parsed:
    columns: dict[str, None] = {}
    rows: list[Row] = []
    problems: list[Problem] = []
    for line, text in enumerate(_text(file).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            problems.append(Problem("", "an object of JSON", f"{text.strip()[:40]!r} ({error})", line=line))
            continue
        if not isinstance(found, dict):
            problems.append(Problem("", "an object of JSON", repr(found)[:40], line=line))
            continue
        columns |= dict.fromkeys(found)
        rows.append(_row(line, {key: found[key] for key in found if key in wanted}, problems))
    if problems:
        raise BadInput(first_of(problems))
    return tuple(columns), rows


def _read_parquet(file: Path, wanted: Collection[str]) -> Parsed:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as parquet:
            columns = tuple(parquet.schema_arrow.names)
            table = parquet.read([column for column in columns if column in wanted])
    except ArrowException as error:
        raise BadInput(Problem("", "a Parquet file", str(error).splitlines()[0])) from error
    problems: list[Problem] = []
    rows = [_row(line, found, problems) for line, found in enumerate(table.to_pylist(), start=1)]
    if problems:
        raise BadInput(first_of(problems))
    return columns, rows


def _row(line: int, found: Mapping[str, Any], problems: list[Problem]) -> Row:
    """Converts the values of a row to text; what is no text or number is appended to `problems`."""
    values: dict[str, str] = {}
    for column, value in found.items():
        if (text := _text_of(value)) is None:
            problems.append(Problem(column, "text or a number", repr(value)[:40], line=line))
        else:
            values[column] = text
    return Row(line, values)


def _text_of(value: Any) -> str | None:
    """A value as text, "" for none; None for a value that is no text, number or boolean. Integers may be floats, as
    pandas writes those of a column with gaps."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
        case str() if not is_utf8(value):
            return None
        case str() | int():
            return str(value).strip()
        case _:
            return None


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(Problem("", "text in UTF-8", f"the byte 0x{content[error.start]:02x}", line=line)) from error


READERS: Mapping[str, Callable[[Path, Collection[str]], Parsed]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
"""Reader of each ending."""

LINES_AT_MOST = 20
"""Largest number of lines that one message names for one kind of mistake."""


def first_of(problems: Sequence[Problem]) -> list[Problem]:
    """The first problems, and how many more there are.

    >>> print(first_of([Problem("path", "a file", "'x.jpg'", "a.csv", line) for line in range(40)])[-1])
    a.csv: path: expected no more such lines, got 20 more
    """
    more = len(problems) - LINES_AT_MOST
    shown = list(problems[:LINES_AT_MOST])
    if more <= 0:
        return shown
    first = problems[0]
    return [*shown, Problem(first.where, "no more such lines", f"{more} more", first.file)]
