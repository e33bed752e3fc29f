"""What is aggregated, what is bold, and how it reads as Markdown and as HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from statistics import stdev
from typing import Any

import pytest

from tuner.comparison.paired_tests import PairedTest
from tuner.comparison.tables import Entry, Heading, Score, Table, make_table
from tuner.comparison.tables_as_text import as_html, as_markdown, spell, spell_test

HEADINGS = [Heading("15 %", "15 %", "top1"), Heading("100 %", "100 %", "top1")]


def scores_of(**by_row: dict[str, list[float | None]]) -> list[Score]:
    """Row → column → score of each seed; None is a training without one."""
    return [
        Score(row, column, seed, {"top1": value, "loss": 1 - value})
        for row, columns in by_row.items()
        for column, values in columns.items()
        for seed, value in enumerate(values)
        if value is not None
    ]


SCORES = scores_of(
    L2={"15 %": [0.40, 0.44, 0.42], "100 %": [0.80, 0.81, 0.82]},
    Mixup={"15 %": [0.50, 0.52, 0.51], "100 %": [0.70, None, 0.72]},
    SMILE={"15 %": [0.51, 0.50, 0.52], "100 %": [0.83, 0.83, None]},
)
ROWS = ["L2", "Mixup", "SMILE"]


def table_of(scores: list[Score] = SCORES, rows: list[str] = ROWS, **options: Any) -> Table:
    settings: dict[str, Any] = {"reference": "L2", "num_seeds": 3, "higher_is_better": True, "scale": 100}
    return make_table("Accuracy (%)", scores, rows, options.pop("headings", HEADINGS), **(settings | options))


def entry(table: Table, row: str, column: int) -> Entry:
    return table.entries[table.rows.index(row)][column]


def test_mean_and_sample_standard_deviation_over_seeds() -> None:
    l2 = entry(table_of(), "L2", 0)
    assert (l2.n, l2.mean) == (3, pytest.approx(0.42))
    assert l2.sd == pytest.approx(stdev([0.40, 0.44, 0.42]))


def test_rows_and_columns_keep_their_order() -> None:
    table = table_of(rows=["SMILE", "L2"])
    assert table.rows == ("SMILE", "L2")
    assert [e.mean for e in table.entries[1]] == [pytest.approx(0.42), pytest.approx(0.81)]


def test_the_best_is_bold_and_equals_share_it() -> None:
    table = table_of()
    assert [entry(table, row, 0).best for row in ROWS] == [False, True, True]


def test_a_row_that_lacks_a_seed_is_not_the_best_of_its_column() -> None:
    table = table_of()
    assert entry(table, "SMILE", 1).mean == pytest.approx(0.83)
    assert [entry(table, row, 1).best for row in ROWS] == [True, False, False]


def test_lower_can_be_better() -> None:
    table = table_of(headings=[Heading("15 %", "15 %", "loss")], higher_is_better=False)
    assert [entry(table, row, 0).best for row in ROWS] == [False, True, True]


def test_tests_are_against_the_reference_over_shared_seeds() -> None:
    table = table_of()
    assert entry(table, "L2", 0).test is None
    test = entry(table, "Mixup", 1).test
    assert test is not None
    assert (test.n, test.difference) == (2, pytest.approx(-0.10))


def test_no_score_is_a_dash() -> None:
    table = table_of(rows=["L2", "RIFLE"])
    assert entry(table, "RIFLE", 0) == Entry()
    assert spell(Entry(), table) == "–"
    assert "| RIFLE | – | – |" in as_markdown([table])


def test_spelling() -> None:
    table = table_of()
    assert spell(Entry(3, 0.51731, 0.0004, best=True), table, "**") == "**51.73 ± 0.04**"
    assert spell(Entry(1, 0.5, None), table_of(num_seeds=1)) == "50.00"
    assert spell(Entry(2, 0.5, 0.01), table) == "50.00 ± 1.00 (2 of 3 seeds)"
    assert spell_test(None, table) == "–"
    assert spell_test(PairedTest(3, 0.0703, 0.0121, 0.25), table) == "+7.03 (t: p = 0.012, flips: p = 0.25, n = 3)"
    assert spell_test(PairedTest(3, -0.01, 0.0001, 0.25), table) == "-1.00 (t: p < 0.001, flips: p = 0.25, n = 3)"
    assert spell_test(PairedTest(1, 0.01, None, None), table) == "+1.00 (n = 1)"


def test_markdown() -> None:
    text = as_markdown([table_of()])
    lines = text.splitlines()
    assert lines[:5] == [
        "## Accuracy (%)",
        "",
        "| method | 15 % | 100 % |",
        "| --- | ---: | ---: |",
        "| L2 | 42.00 ± 2.00 | **81.00 ± 1.00** |",
    ]
    assert "| Mixup | **51.00 ± 1.00** | 71.00 ± 1.41 (2 of 3 seeds) |" in lines
    assert "Difference from L2:" in lines
    assert "3 training seeds" in text
    assert "exact sign-flip permutation test, whose smallest possible value with 3 pairs is 0.25" in text


def test_labels_cannot_break_the_markdown() -> None:
    scores = scores_of(**{"a|b*_<x>": {"15 %": [0.5, 0.6]}})
    text = as_markdown([table_of(scores, ["a|b*_<x>"], reference="a|b*_<x>")])
    assert r"| a\|b\*\_\<x\> | 55.00" in text


def test_one_seed_has_neither_spread_nor_test() -> None:
    text = as_markdown([table_of(scores_of(L2={"15 %": [0.4]}, SMILE={"15 %": [0.5]}), num_seeds=1)])
    assert "| SMILE | **50.00** | – |" in text
    assert "Difference" not in text


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.strong: list[str] = []
        self.cells: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "strong" in self.open:
            self.strong.append(data)
        elif "td" in self.open or "th" in self.open:
            self.cells.append(data)


def test_html_is_whole_and_needs_nothing_else() -> None:
    text = as_html("a <b> & c", [table_of()])
    page = Page(text)
    assert page.links == []
    assert "url(" not in text
    assert "http" not in text
    assert "<title>a &lt;b&gt; &amp; c</title>" in text
    assert "color-scheme: light dark" in text
    assert page.strong == ["81.00 ± 1.00", "51.00 ± 1.00", "51.00 ± 1.00"]
    assert {"15 %", "100 %", "L2", "SMILE", "42.00 ± 2.00"} <= set(page.cells)


def test_labels_cannot_break_the_html() -> None:
    page = Page(as_html("x", [table_of(scores_of(**{"<i>": {"15 %": [0.5]}}), ["<i>"], reference="<i>")]))
    assert "<i>" in page.cells


def test_every_entry_is_a_record() -> None:
    records = list(table_of().records())
    assert len(records) == 6
    assert records[0].row == "L2"
    assert records[0].difference is None
    mixup = records[2]
    assert (mixup.row, mixup.column, mixup.n, mixup.best, mixup.pairs) == ("Mixup", "15 %", 3, True, 3)
    assert mixup.difference == pytest.approx(0.09)
    assert mixup.p_permutation == 0.25


def test_no_tables_are_no_text() -> None:
    assert as_markdown([]) == "\n"
