"""Aggregates scores to the paper's kind of table: mean ± sd, the best entry, and paired tests against the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuner.comparison.paired_tests import PairedTest, paired_test
from tuner.record.selection import mean_and_sd


@dataclass(frozen=True)
class Score:
    """Values of one training, of a row in a column with a seed, by metric."""

    row: str
    column: str
    seed: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Heading:
    """Column of a table: the comparison's `column`, the `metric` that is shown, and the heading's text."""

    text: str
    column: str
    metric: str


@dataclass(frozen=True)
class Entry:
    """Entry of a table: mean and sample standard deviation over `n` seeds, in the metric's unit."""

    n: int = 0
    mean: float | None = None
    sd: float | None = None
    best: bool = False
    test: PairedTest | None = None
    """Test against the reference; None for the reference itself."""


@dataclass(frozen=True)
class TableRecord:
    """Entry of a table as `--json` writes it; `pairs` is the number of seeds over which its test is paired."""

    table: str
    row: str
    column: str
    metric: str
    n: int
    mean: float | None
    sd: float | None
    best: bool
    difference: float | None
    p_t: float | None
    p_permutation: float | None
    pairs: int


@dataclass(frozen=True)
class Table:
    """Table of entries by row and heading. Shown values are multiplied by `scale` and have `digits` decimals."""

    title: str
    rows: tuple[str, ...]
    headings: tuple[Heading, ...]
    entries: tuple[tuple[Entry, ...], ...]
    reference: str
    num_seeds: int
    higher_is_better: bool
    scale: float = 1.0
    digits: int = 2

    @property
    def compared(self) -> list[tuple[str, tuple[Entry, ...]]]:
        """Rows other than the reference, with their entries; none with a single seed, which cannot be tested."""
        if self.num_seeds < 2:
            return []
        return [(row, entries) for row, entries in zip(self.rows, self.entries, strict=True) if row != self.reference]

    def records(self) -> Iterator[TableRecord]:
        """Yields every entry for other programs."""
        for row, entries in zip(self.rows, self.entries, strict=True):
            for heading, entry in zip(self.headings, entries, strict=True):
                test = entry.test
                yield TableRecord(
                    table=self.title,
                    row=row,
                    column=heading.column,
                    metric=heading.metric,
                    n=entry.n,
                    mean=entry.mean,
                    sd=entry.sd,
                    best=entry.best,
                    difference=None if test is None else test.difference,
                    p_t=None if test is None else test.p_t,
                    p_permutation=None if test is None else test.p_permutation,
                    pairs=0 if test is None else test.n,
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
    """Aggregates scores over seeds and tests each row against `reference`, by heading.

    The best entry of a column is that with the best mean among rows with all `num_seeds` seeds; ties are all best.

    >>> values = {("L2", 0): 0.5, ("L2", 1): 0.75, ("SMILE", 0): 0.75, ("SMILE", 1): 0.875}
    >>> scores = [Score(row, "15 %", seed, {"test_top1": value}) for (row, seed), value in values.items()]
    >>> headings = [Heading("15 %", "15 %", "test_top1")]
    >>> table = make_table("Accuracy", scores, ["L2", "SMILE"], headings, "L2", num_seeds=2, higher_is_better=True)
    >>> [(record.row, record.mean, record.best, record.difference) for record in table.records()]
    [('L2', 0.625, False, None), ('SMILE', 0.8125, True, 0.1875)]
    """
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
