"""Tables as text: Markdown for files and terminals, HTML for browsers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tuner.comparison.paired_tests import MAX_EXACT_PAIRS, PairedTest
from tuner.comparison.tables import Entry, Heading, Table
from tuner.reports.page_templates import TEMPLATES

NOTHING = "–"


def as_markdown(tables: Sequence[Table]) -> str:
    """Renders tables as Markdown, each followed by its paired tests."""
    parts = [part for table in tables for part in _markdown_of(table)]
    return "\n\n".join([*parts, *([notes(tables[0])] if tables else [])]) + "\n"


def _markdown_of(table: Table) -> Iterator[str]:
    yield f"## {_md(table.title)}"
    yield _markdown_grid(table.headings, table.rows, [[spell(e, table, "**") for e in row] for row in table.entries])
    if table.compared:
        yield f"Difference from {_md(table.reference)}:"
        tests = [[spell_test(entry.test, table) for entry in entries] for _, entries in table.compared]
        yield _markdown_grid(table.headings, [row for row, _ in table.compared], tests)


def _markdown_grid(headings: Sequence[Heading], rows: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    lines = [["method", *(_md(heading.text) for heading in headings)], ["---", *["---:" for _ in headings]]]
    lines += [[_md(row), *row_texts] for row, row_texts in zip(rows, texts, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_html(title: str, tables: Sequence[Table]) -> str:
    """Renders tables as one self-contained HTML page, with a light and a dark colour scheme."""
    return TEMPLATES.get_template("comparison.html").render(
        title=title,
        tables=tables,
        note=notes(tables[0]) if tables else "",
        zip=zip,
        spell=spell,
        spell_test=spell_test,
    )


def spell(entry: Entry, table: Table, bold: str = "") -> str:
    """Formats an entry as `51.73 ± 0.04`, between `bold` if it is the best, with a note if seeds are missing."""
    if entry.mean is None:
        return NOTHING
    sd = f" ± {table.scale * entry.sd:.{table.digits}f}" if entry.sd is not None else ""
    missing = f" ({entry.n} of {table.num_seeds} seeds)" if entry.n < table.num_seeds else ""
    mark = bold if entry.best else ""
    return f"{mark}{table.scale * entry.mean:.{table.digits}f}{sd}{mark}{missing}"


def spell_test(test: PairedTest | None, table: Table) -> str:
    """Formats a test as `+7.03 (t: p = 0.012, flips: p = 0.25, n = 3)`."""
    if test is None:
        return NOTHING
    named = (("t", test.p_t), ("flips", test.p_permutation))
    parts = [f"{name}: p {_spell_p(p)}" for name, p in named if p is not None]
    return f"{table.scale * test.difference:+.{table.digits}f} ({', '.join([*parts, f'n = {test.n}'])})"


def notes(table: Table) -> str:
    """Returns the legend of the tables."""
    sentences = [f"Mean ± sample standard deviation over {table.num_seeds} training seeds; the best mean is bold."]
    if table.num_seeds > 1:
        flips = "exact" if table.num_seeds <= MAX_EXACT_PAIRS else "random"
        smallest = 2 / 2 ** min(table.num_seeds, MAX_EXACT_PAIRS)
        sentences += [
            f"Differences are paired over the seeds: two-sided p values of the paired t test and of the {flips} "
            f"sign-flip permutation test, whose smallest possible value with {table.num_seeds} pairs is "
            f"{smallest:.2g}; not corrected for the number of comparisons. The training images are the same for every "
            f"seed, so that the spread is that of the training alone."
        ]
    return " ".join(sentences)


def _spell_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.0995 else f"= {p:.2f}"


def _md(text: str) -> str:
    """Escapes a label for a cell of a Markdown table."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)
