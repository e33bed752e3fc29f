"""Scores → the paper's kind of table: mean ± sd, the best in bold, and how each row stands to the reference.

Pure functions: scores in, tables out; tables in, Markdown or HTML out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tuner.comparison.paired_tests import MAX_EXACT_PAIRS, PairedTest, paired_test
from tuner.record.selection import mean_and_sd
from tuner.reports.page_templates import TEMPLATES

NOTHING = "–"


@dataclass(frozen=True)
class Score:
    """What one training came to: `values` by metric, for a row, a column and a seed."""

    row: str
    column: str
    seed: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Heading:
    """A column of a table: the comparison's `column`, the `metric` shown of it, and what stands above it."""

    text: str
    column: str
    metric: str


@dataclass(frozen=True)
class Entry:
    """One place in a table: mean and sample standard deviation over `n` seeds, in the metric's own unit."""

    n: int = 0
    mean: float | None = None
    sd: float | None = None
    best: bool = False
    test: PairedTest | None = None
    """Against the reference; None for the reference itself."""


@dataclass(frozen=True)
class Table:
    """`entries` by row and heading. Shown values are multiplied by `scale`."""

    title: str
    rows: tuple[str, ...]
    headings: tuple[Heading, ...]
    entries: tuple[tuple[Entry, ...], ...]
    reference: str
    num_seeds: int
    higher_is_better: bool
    scale: float = 1.0
    digits: int = 2

    def records(self) -> Iterator[dict[str, Any]]:
        """Every entry as plain data, for JSON."""
        for row, entries in zip(self.rows, self.entries, strict=True):
            for heading, entry in zip(self.headings, entries, strict=True):
                place = {"table": self.title, "row": row, "column": heading.column, "metric": heading.metric}
                yield (
                    place
                    | {"n": entry.n, "mean": entry.mean, "sd": entry.sd, "best": entry.best}
                    | _as_data(entry.test)
                )


def make_table(
    title: str,
    scores: Iterable[Score],
    rows: Sequence[str],
    headings: Sequence[Heading],
    reference: str,
    num_seeds: int,
    higher_is_better: bool,
    scale: float = 1.0,
    digits: int = 2,
) -> Table:
    """Aggregates over seeds. The best is the best mean of a column, among rows that no seed is missing of; equals
    share it."""
    scores = list(scores)
    columns = [_column(scores, rows, heading, reference, num_seeds, higher_is_better) for heading in headings]
    entries = tuple(zip(*columns, strict=True))
    return Table(title, tuple(rows), tuple(headings), entries, reference, num_seeds, higher_is_better, scale, digits)


def _column(
    scores: Sequence[Score],
    rows: Sequence[str],
    heading: Heading,
    reference: str,
    num_seeds: int,
    higher_is_better: bool,
) -> list[Entry]:
    by_row = {row: _by_seed(scores, row, heading) for row in rows}
    means = {row: mean_and_sd(values.values()) for row, values in by_row.items() if values}
    whole = [means[row][0] for row in means if len(by_row[row]) >= num_seeds]
    best = (max if higher_is_better else min)(whole, default=None)
    column = []
    for row, values in by_row.items():
        mean, sd = means.get(row, (None, None))
        is_best = mean is not None and mean == best and len(values) >= num_seeds
        test = None if row == reference else paired_test(values, by_row[reference])
        column.append(Entry(len(values), mean, sd, is_best, test))
    return column


def _by_seed(scores: Iterable[Score], row: str, heading: Heading) -> dict[int, float]:
    return {
        score.seed: score.values[heading.metric]
        for score in scores
        if (score.row, score.column) == (row, heading.column) and heading.metric in score.values
    }


def as_markdown(tables: Sequence[Table]) -> str:
    """The tables, each followed by its paired tests."""
    parts = [part for table in tables for part in _markdown_of(table)]
    return "\n\n".join([*parts, *([notes(tables[0])] if tables else [])]) + "\n"


def _markdown_of(table: Table) -> Iterator[str]:
    yield f"## {_md(table.title)}"
    yield _markdown_grid(table.headings, table.rows, [[spell(e, table, "**") for e in row] for row in table.entries])
    compared = [row for row in table.rows if row != table.reference]
    if compared and table.num_seeds > 1:
        yield f"Difference from {_md(table.reference)}:"
        yield _markdown_grid(
            table.headings,
            compared,
            [
                [spell_test(e.test, table) for e in entries]
                for row, entries in zip(table.rows, table.entries, strict=True)
                if row != table.reference
            ],
        )


def _markdown_grid(headings: Sequence[Heading], rows: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    lines = [["method", *(_md(heading.text) for heading in headings)], ["---", *["---:" for _ in headings]]]
    lines += [[_md(row), *row_texts] for row, row_texts in zip(rows, texts, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_html(title: str, tables: Sequence[Table]) -> str:
    """One page that needs nothing else and is readable on a light and on a dark ground."""
    parts = [part for table in tables for part in _html_of(table)]
    note = f"<p class='note'>{html.escape(notes(tables[0]))}</p>" if tables else ""
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts, note])
    return TEMPLATES.get_template("base.html").render(title=title, body=Markup(body))


def _html_of(table: Table) -> Iterator[str]:
    yield f"<h2>{html.escape(table.title)}</h2>"
    yield _html_grid(
        table.headings,
        table.rows,
        [[_strong(spell(e, table), e.best) for e in entries] for entries in table.entries],
    )
    compared = [(r, e) for r, e in zip(table.rows, table.entries, strict=True) if r != table.reference]
    if compared and table.num_seeds > 1:
        yield f"<h3>Difference from {html.escape(table.reference)}</h3>"
        yield _html_grid(
            table.headings,
            [row for row, _ in compared],
            [[html.escape(spell_test(e.test, table)) for e in entries] for _, entries in compared],
        )


def _html_grid(headings: Sequence[Heading], rows: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{html.escape(text)}</th>" for text in ("method", *(h.text for h in headings)))
    body = "\n".join(
        f"<tr><th scope='row'>{html.escape(row)}</th>{''.join(f'<td>{text}</td>' for text in row_texts)}</tr>"
        for row, row_texts in zip(rows, texts, strict=True)
    )
    return f"<div class='wide'><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"


def spell(entry: Entry, table: Table, bold: str = "") -> str:
    """`51.73 ± 0.04`, between `bold` if it is the best; seeds that are missing are said."""
    if entry.mean is None:
        return NOTHING
    sd = f" ± {table.scale * entry.sd:.{table.digits}f}" if entry.sd is not None else ""
    missing = f" ({entry.n} of {table.num_seeds} seeds)" if entry.n < table.num_seeds else ""
    mark = bold if entry.best else ""
    return f"{mark}{table.scale * entry.mean:.{table.digits}f}{sd}{mark}{missing}"


def spell_test(test: PairedTest | None, table: Table) -> str:
    """`+7.03 (t: p = 0.012, flips: p = 0.25, n = 3)`."""
    if test is None:
        return NOTHING
    named = (("t", test.p_t), ("flips", test.p_permutation))
    parts = [f"{name}: p {_spell_p(p)}" for name, p in named if p is not None]
    return f"{table.scale * test.difference:+.{table.digits}f} ({', '.join([*parts, f'n = {test.n}'])})"


def notes(table: Table) -> str:
    """How to read the tables."""
    said = [f"Mean ± sample standard deviation over {table.num_seeds} training seeds; the best mean is bold."]
    if table.num_seeds > 1:
        flips = "exact" if table.num_seeds <= MAX_EXACT_PAIRS else "random"
        smallest = 2 / 2 ** min(table.num_seeds, MAX_EXACT_PAIRS)
        said += [
            f"Differences are paired over the seeds: two-sided p values of the paired t test and of the {flips} "
            f"sign-flip permutation test, whose smallest possible value with {table.num_seeds} pairs is "
            f"{smallest:.2g}; not corrected for the number of comparisons. The training images are the same for every "
            f"seed, so that the spread is that of the training alone."
        ]
    return " ".join(said)


def _spell_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.0995 else f"= {p:.2f}"


def _as_data(test: PairedTest | None) -> dict[str, Any]:
    if test is None:
        return {"difference": None, "p_t": None, "p_permutation": None, "pairs": 0}
    return {"difference": test.difference, "p_t": test.p_t, "p_permutation": test.p_permutation, "pairs": test.n}


def _md(text: str) -> str:
    """A label as Markdown text: what would be markup, or end a cell, is escaped."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def _strong(text: str, best: bool) -> str:
    return f"<strong>{html.escape(text)}</strong>" if best else html.escape(text)
