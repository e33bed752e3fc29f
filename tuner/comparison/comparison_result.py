"""Result of a comparison: tables for people, every score for other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainables.measures.interpolation import SPEC
from trainables.results import RetrainResult
from tuner.comparison.comparison_experiment import ComparisonExperiment
from tuner.comparison.tables import Heading, Score, Table, TableRecord, make_table
from tuner.comparison.tables_as_text import as_html, as_markdown
from tuner.experiment.objective import TOP1, Objective, ObjectiveName
from tuner.experiment.tree import short_names
from tuner.messages.invocation import command_line
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import cell_name, clock
from tuner.record.directory import RunDirectory
from tuner.record.history import ComparisonHistory

INTERPOLATION = (
    ("Label-IL", "label_il"),
    ("Feature-IL", "feature_il"),
)
SPLITS = ("train", "test")


@dataclass(frozen=True)
class CellScore:
    """Test top-1 in [0, 1] of a training, every metric on the test split, and its other measures."""

    row: str
    column: str
    seed: int
    test_top1: float
    metrics: dict[str, float]
    measures: dict[str, float]
    duration_s: float


@dataclass(frozen=True)
class CellFailure:
    """Training without a score."""

    row: str
    column: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Choice:
    """Choice of a row's own search by validation: `params` by short name; `trial` is None if none was complete.

    `objective` is the metric that chose, `val_objective` its value; of records of earlier versions None.
    """

    row: str
    column: str
    trial: int | None
    params: dict[str, Any]
    val_top1: float | None
    objective: ObjectiveName
    val_objective: float | None


@dataclass(frozen=True)
class ComparisonResult:
    """Result of a comparison; `--json` writes these fields. Accuracies are in [0, 1].

    `tracking_uri` is that of the MLflow store, without credentials; `complete` is whether every row has a score in
    every column; `entries` are those of every table: mean, sd, n, whether it is the best, and its paired test.

        [(entry.row, entry.mean, entry.p_t) for entry in result.entries]
    """

    name: str
    directory: str
    tracking_uri: str
    reference: str
    rows: list[str]
    columns: list[str]
    seeds: int
    complete: bool
    scores: list[CellScore]
    failures: list[CellFailure]
    chosen: list[Choice]
    entries: list[TableRecord]
    seconds: float

    def write(self, file: Path) -> None:
        """Writes the result as JSON. Raises OSError."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def comparison_result_of(
    comparison: ComparisonExperiment, directory: RunDirectory, history: ComparisonHistory, uri: str, duration_s: float
) -> ComparisonResult:
    """Makes the result from the history. `uri` is the store's, and may hold credentials."""
    scores = [
        CellScore(
            row,
            column,
            seed,
            cell.result.test_top1,
            cell.result.metrics,
            cell.measures,
            cell.result.duration_s,
        )
        for (row, column, seed), cell in sorted(history.cells.items())
    ]
    scored = {(score.row, score.column) for score in scores}
    return ComparisonResult(
        name=comparison.name,
        directory=str(directory),
        tracking_uri=without_credentials(uri),
        reference=comparison.reference,
        rows=list(comparison.rows),
        columns=list(comparison.columns),
        seeds=comparison.compare.seeds,
        complete=all((arm.row, arm.column) in scored for arm in comparison.arms),
        scores=scores,
        failures=[CellFailure(*place, cell.reason) for place, cell in sorted(history.cell_failures.items())],
        chosen=list(_choices(history)),
        entries=[record for table in tables_of(comparison, history) for record in table.records()],
        seconds=duration_s,
    )


def _choices(history: ComparisonHistory) -> Iterator[Choice]:
    for (row, column), chosen in sorted(history.chosen.items()):
        names = short_names(chosen.params)
        params = {names[path]: value for path, value in chosen.params.items()}
        yield Choice(row, column, chosen.trial, params, chosen.val_top1, chosen.objective, chosen.val_objective)


def tables_of(comparison: ComparisonExperiment, history: ComparisonHistory) -> list[Table]:
    """Makes the tables: each objective of the rows on the test split, and top-1, accuracies in percent; with
    `measures: [interpolation]` also the interpolation losses as in the paper's Table 6, and relative to the size of
    what is interpolated."""
    scores = [
        Score(row, column, seed, _test_values(cell.result) | cell.measures)
        for (row, column, seed), cell in sorted(history.cells.items())
        if seed < comparison.compare.seeds
    ]

    def table(title: str, headings: list[Heading], higher_is_better: bool, scale: float, digits: int) -> Table:
        seeds = comparison.compare.seeds
        return make_table(
            title, scores, comparison.rows, headings, comparison.reference, seeds, higher_is_better, scale, digits
        )

    tables = []
    for objective in comparison.objectives:
        headings = [Heading(column, column, f"test_{objective.name}") for column in comparison.columns]
        scale, digits = (100, 2) if objective.is_share else (1, 4)
        tables.append(table(_title(objective), headings, not objective.lower_is_better, scale, digits))
    if "interpolation" in comparison.compare.measures:
        absolute, relative = _interpolation(comparison, ""), _interpolation(comparison, "_relative")
        tables += [
            table(f"Interpolation loss, {SPEC} (lower is better)", absolute, higher_is_better=False, scale=1, digits=3),
            table(
                "Interpolation loss / mean norm (%, lower is better)",
                relative,
                higher_is_better=False,
                scale=100,
                digits=2,
            ),
        ]
    return tables


def _test_values(result: RetrainResult) -> dict[str, float]:
    return {f"test_{name}": value for name, value in result.metrics.items()} | {"test_top1": result.test_top1}


def _title(objective: Objective) -> str:
    """Title of the table of a metric on the test split."""
    if objective == TOP1:
        return "Test accuracy, top-1 (%)"
    return f"Test {objective.label} {'(%)' if objective.is_share else '(lower is better)'}"


def _interpolation(comparison: ComparisonExperiment, suffix: str) -> list[Heading]:
    columns = comparison.columns
    return [
        Heading(
            f"{name} {split}" if len(columns) == 1 else f"{column}: {name} {split}", column, f"{il}{suffix}_{split}"
        )
        for column in columns
        for name, il in INTERPOLATION
        for split in SPLITS
    ]


def write_tables(comparison: ComparisonExperiment, directory: RunDirectory, history: ComparisonHistory) -> None:
    """Writes the tables as Markdown and as HTML into the run directory, which is uploaded to MLflow."""
    tables = tables_of(comparison, history)
    directory.tables_markdown.write_text(f"# {comparison.name}\n\n{as_markdown(tables)}", encoding="utf-8")
    directory.tables_html.write_text(as_html(comparison.name, tables), encoding="utf-8")


def closing_lines(result: ComparisonResult, directory: RunDirectory) -> Iterator[str]:
    """Yields the lines that a command ends with: tables, files, and why trainings failed."""
    yield f"{result.name}: {len(result.scores)} trainings in {clock(result.seconds)}"
    yield ""
    yield from directory.tables_markdown.read_text(encoding="utf-8").splitlines()
    yield ""
    yield f"  tables         {directory.tables_html}"
    yield f"  record         {result.directory}"
    yield f"  see it         {command_line('ui', '--tracking-uri', result.tracking_uri)}"
    for failure in result.failures:
        yield f"  failed         {cell_name(failure.row, failure.column, failure.seed)}: {failure.reason}"
