"""What a comparison found: its tables for a person, every score for other programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainables.measures.interpolation import SPEC
from tuner.comparison.comparison_experiment import ComparisonExperiment
from tuner.comparison.tables import Heading, Score, Table, as_html, as_markdown, make_table
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import clock
from tuner.record.events import Event
from tuner.record.history import History

MARKDOWN, HTML = "comparison.md", "comparison.html"

INTERPOLATION = (
    ("Label-IL", "label_il"),
    ("Feature-IL", "feature_il"),
)
SPLITS = ("train", "test")


@dataclass(frozen=True)
class ComparisonResult:
    """The end of a comparison; `--json` writes it as it stands here. Scores are top-1 in [0, 1]."""

    name: str
    directory: str
    tracking_uri: str
    """Where it is recorded, without credentials."""
    reference: str
    rows: list[str]
    columns: list[str]
    seeds: int
    complete: bool
    """Whether every row has a score in every column."""
    scores: list[dict[str, Any]]
    """Every training: row, column, seed, test_top1, measures, duration_s."""
    failures: list[dict[str, Any]]
    chosen: list[dict[str, Any]]
    """What the rows' own searches came to, by validation."""
    entries: list[dict[str, Any]]
    """Every entry of every table: mean, sd, n, whether it is the best, and its paired test against the reference."""
    seconds: float

    def write(self, file: Path) -> None:
        """Writes the verdict as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def comparison_result_of(
    comparison: ComparisonExperiment, directory: Path, history: History, uri: str, seconds: float
) -> ComparisonResult:
    """Reads the verdict off the journal."""
    scores = list(_of(history.cells, ("row", "column", "seed", "test_top1", "measures", "duration_s")))
    scored = {(score["row"], score["column"]) for score in scores}
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
        failures=list(_of(history.cell_failures, ("row", "column", "seed", "reason"))),
        chosen=list(_of(history.chosen, ("row", "column", "trial", "params", "val_top1"))),
        entries=[record for table in tables_of(comparison, history) for record in table.records()],
        seconds=seconds,
    )


def _of(events: dict[Any, Event], keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for _, event in sorted(events.items()):
        yield {key: event[key] for key in keys}


def tables_of(comparison: ComparisonExperiment, history: History) -> list[Table]:
    """Test accuracy in percent; with `measures: [interpolation]` also the interpolation losses as in the paper's Table
    6, and relative to the size of what is interpolated."""
    scores = [
        Score(row, column, seed, {"test_top1": event["test_top1"], **event["measures"]})
        for (row, column, seed), event in sorted(history.cells.items())
        if seed < comparison.compare.seeds
    ]

    def table(title: str, headings: list[Heading], higher_is_better: bool, scale: float, digits: int) -> Table:
        seeds = comparison.compare.seeds
        return make_table(
            title, scores, comparison.rows, headings, comparison.reference, seeds, higher_is_better, scale, digits
        )

    accuracy = [Heading(column, column, "test_top1") for column in comparison.columns]
    tables = [table("Test accuracy, top-1 (%)", accuracy, higher_is_better=True, scale=100, digits=2)]
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


def write_tables(comparison: ComparisonExperiment, directory: Path, history: History) -> None:
    """Puts `comparison.md` and `comparison.html` into the directory, from where they reach MLflow."""
    tables = tables_of(comparison, history)
    (directory / MARKDOWN).write_text(f"# {comparison.name}\n\n{as_markdown(tables)}", encoding="utf-8")
    (directory / HTML).write_text(as_html(comparison.name, tables), encoding="utf-8")


def closing_lines(result: ComparisonResult, markdown: str) -> Iterator[str]:
    """The end of a comparison for a person, and why trainings failed."""
    yield f"{result.name}: {len(result.scores)} trainings in {clock(result.seconds)}"
    yield ""
    yield from markdown.splitlines()
    yield ""
    yield f"  tables         {Path(result.directory) / HTML}"
    yield f"  record         {result.directory}"
    yield f"  see it         python -m tuner.ui --tracking-uri {shlex.quote(result.tracking_uri)}"
    for failure in result.failures:
        place = f"{failure['row']} | {failure['column']} | seed {failure['seed']}"
        yield f"  failed         {place}: {failure['reason']}"
