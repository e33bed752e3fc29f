"""Images listed in a table, a row an image: a CSV, TSV, JSON lines or Parquet file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from trainables.data.config import DataConfig
from trainables.data.datasets.folders import is_regular
from trainables.data.datasets.formats import HEIF_ENDINGS, READS_HEIF, ending_of, readable_endings
from trainables.data.datasets.listing import Dataset, Listing, listing_of_files
from trainables.data.datasets.root_folder import existing_root
from trainables.data.datasets.split_names import SplitName, split_named
from trainables.data.datasets.table import Row, Table, first_of, read_table
from trainables.errors import BadInput, Problem, did_you_mean


class Columns(NamedTuple):
    """The names of a manifest's columns."""

    path: str
    label: str
    split: str
    group: str

    @classmethod
    def of(cls, config: DataConfig) -> Columns:
        """The names in the configuration."""
        return cls(config.path_column, config.label_column, config.split_column, config.group_column)


class Entry(NamedTuple):
    """A row that has been checked; `target` is the file that `path` leads to, without links."""

    line: int
    path: Path
    target: str
    label: str
    split: SplitName
    group: str


def manifest(config: DataConfig) -> Dataset:
    """Images of your own, listed in a table: a row an image, with its path and label, perhaps its split and group.

    Paths are relative to `root`, or to the table's folder. Classes are numbered by their sorted names in the training
    split. Raises BadInput with every mistake in the table, each with its line.
    """
    file = _existing_file(config)
    folder = file.parent if config.root is None else existing_root(config)
    columns = Columns.of(config)
    table = read_table(file, columns)
    _check_columns(table, columns)
    entries, problems = _checked(folder, table, columns)
    kept, contradictions = _distinct(columns, entries)
    classes = _classes(table, columns)
    if len(classes) < 2:
        got = ", ".join(map(repr, classes)) or "none"
        problems.append(Problem(columns.label, "at least 2 labels of training images", got))
    problems += contradictions
    problems += _unknown_labels(columns, kept, classes)
    if problems:
        raise BadInput(replace(problem, file=table.name) for problem in _by_kind(problems))
    train, test, validation = (
        _listing([entry for entry in kept if entry.split == split], classes, columns.group in table.columns)
        for split in ("train", "test", "validation")
    )
    repeated = len(entries) - len(kept)
    notes = (f"lines of {table.name} that repeat another one, left out: {repeated}",) if repeated else ()
    return Dataset(
        tuple(classes),
        train,
        test if len(test) else None,
        validation=validation if len(validation) else None,
        notes=notes,
    )


def _existing_file(config: DataConfig) -> Path:
    if config.file is None:
        raise BadInput(Problem("file", "a table for dataset manifest (.csv, .tsv, .jsonl or .parquet)", "nothing"))
    file = config.file.expanduser()
    if not file.is_file():
        state = "is a folder" if file.is_dir() else "does not exist"
        raise BadInput(Problem("file", "an existing file", f"'{file}', which {state}"))
    return file


def _check_columns(table: Table, columns: Columns) -> None:
    """Raises BadInput for a column that has to be there, and for one that was named and is not there."""
    needed = {"path_column": columns.path, "label_column": columns.label}
    optional = {"split_column": columns.split, "group_column": columns.group}
    needed |= {key: name for key, name in optional.items() if name != DataConfig.model_fields[key].default}
    found = ", ".join(table.columns)
    missing = [
        Problem(
            name,
            f"a column of this name, or another in data.{key}",
            f"the columns {found}{did_you_mean(name, table.columns)}",
            table.name,
            1,
        )
        for key, name in needed.items()
        if name not in table.columns
    ]
    if missing:
        raise BadInput(missing)


def _checked(folder: Path, table: Table, columns: Columns) -> tuple[list[Entry], list[Problem]]:
    """The entries of valid rows, and the mistakes of the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    files = Files()
    for row in table.rows:
        path, label = row.values.get(columns.path, ""), row.values.get(columns.label, "")
        named = _split_of(row, table, columns)
        split, target = split_named(named), files.target(folder / path) if path else None
        found = _row_problems(columns, folder, path, target)
        if not label:
            found.append(Problem(columns.label, "the name of a class", "nothing"))
        if split is None:
            found.append(Problem(columns.split, "train, test or val", repr(named) if named else "nothing"))
        problems += (replace(problem, line=row.line) for problem in found)
        if not found and split is not None and target is not None:
            group = row.values.get(columns.group, "")
            entries.append(Entry(row.line, folder / path, target, label, split, group))
    return entries, problems


def _split_of(row: Row, table: Table, columns: Columns) -> str:
    return row.values.get(columns.split, "") if columns.split in table.columns else "train"


def _classes(table: Table, columns: Columns) -> list[str]:
    """The labels of all training rows, sorted, whether or not their files are there."""
    rows = (row for row in table.rows if split_named(_split_of(row, table, columns)) == "train")
    return sorted({label for row in rows if (label := row.values.get(columns.label, ""))})


def _row_problems(columns: Columns, folder: Path, path: str, target: str | None) -> list[Problem]:
    """Problem of a path that leads to the file `target`, if to any."""
    if not path:
        return [Problem(columns.path, "the path of an image", "nothing")]
    if target is None:
        state = "is no file" if "\0" not in path and (folder / path).exists() else "does not exist"
        return [Problem(columns.path, "an existing file", f"{str(folder / path)!r}, which {state}")]
    if ending_of(path) in HEIF_ENDINGS - readable_endings():
        return [Problem(columns.path, "a file that can be decoded here", f"'{path}' ({READS_HEIF})")]
    return []


class Files:
    """Files of a manifest. Each folder is listed once, as tests of single files are slow on a network."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[str, dict[str, bool]]] = {}

    def target(self, path: Path) -> str | None:
        """The file that a path leads to, without links; None if there is none. A link to nothing is its own target."""
        folder, name = os.path.split(path)
        if "\0" in folder:
            return None
        if folder not in self._folders:
            self._folders[folder] = (os.path.realpath(folder), _files_in(folder))
        real, names = self._folders[folder]
        if name not in names:
            return None
        return os.path.realpath(path) if names[name] else os.path.join(real, name)


def _files_in(folder: str) -> dict[str, bool]:
    """Name of each file → whether it is a link."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_symlink() for entry in entries if is_regular(entry)}
    except OSError:
        return {}


def _distinct(columns: Columns, entries: Sequence[Entry]) -> tuple[list[Entry], list[Problem]]:
    """The entries without repetitions, and the problems of a path with two labels or in two splits."""
    first: dict[str, Entry] = {}
    problems: list[Problem] = []
    for entry in entries:
        known = first.setdefault(entry.target, entry)
        if known.label != entry.label:
            got = f"'{entry.label}' for '{entry.path}', which has '{known.label}' in line {known.line}"
            problems.append(Problem(columns.label, "one label for each path", got, line=entry.line))
        elif known.split != entry.split:
            got = f"{entry.split} for '{entry.path}', which is in {known.split} in line {known.line}"
            problems.append(Problem(columns.split, "one split for each path", got, line=entry.line))
    return list(first.values()), problems


def _unknown_labels(columns: Columns, entries: Sequence[Entry], classes: Sequence[str]) -> Iterator[Problem]:
    """Problems of labels without training images; the reverse is allowed."""
    known = set(classes)
    for entry in entries:
        if entry.label not in known:
            got = f"'{entry.label}'{did_you_mean(entry.label, classes)}"
            yield Problem(columns.label, "the label of a training image", got, line=entry.line)


def _by_kind(problems: Sequence[Problem]) -> list[Problem]:
    """The problems by line; of each column and expectation the first ones only."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.where, problem.expected), []).append(problem)
    named = [problem for kind in kinds.values() for problem in first_of(kind)]
    return sorted(named, key=lambda problem: problem.line or sys.maxsize)


def _listing(entries: Sequence[Entry], classes: Sequence[str], has_groups: bool) -> Listing:
    label_of = {name: label for label, name in enumerate(classes)}
    groups = [entry.group or str(entry.path) for entry in entries] if has_groups else None
    return listing_of_files([entry.path for entry in entries], [label_of[entry.label] for entry in entries], groups)
