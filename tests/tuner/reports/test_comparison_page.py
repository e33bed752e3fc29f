"""The page that compares searches."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from tests.tuner.reports.evaluated import write_evaluated
from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import space_of
from tuner.record.lock import locked
from tuner.reports import comparison_page as module
from tuner.reports.comparison_page import comparison_page, names_of
from tuner.reports.search_run import SearchRun, read_run


@pytest.fixture(autouse=True)
def no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "packed_plotly", lambda: "cGxvdGx5")


@pytest.fixture
def runs(tmp_path: Path) -> list[SearchRun]:
    directories = [write_evaluated(tmp_path / name / "1")[0] for name in "ab"]
    other = space_of(name="other", search__objective="log_loss")
    return [*map(read_run, directories), read_run(write_search(tmp_path / "<i>" / "1", [], other, why=None))]


def test_it_has_a_column_for_each_search(runs: list[SearchRun]) -> None:
    text = comparison_page(runs)
    assert "<title>3 searches compared</title>" in text
    headings = re.findall(r'<th scope="col">([^<]+)</th>', text)
    assert headings == ["a/1", "b/1", "other"] * 2
    assert names_of(runs) == ["a/1", "b/1", "other"]
    assert re.search(r"<strong>b/1</strong>: 0.0 points \(−[\d.]+ to \+[\d.]+, 12 test images\)", text)
    assert "<strong>&lt;i&gt;/1</strong>: cannot be compared: no test predictions of &lt;i&gt;/1 are kept" in text
    assert "search.objective" in text
    assert "<i>" not in text


def test_searches_with_an_objective_share_a_figure(runs: list[SearchRun]) -> None:
    (figure, _) = dict(module._figures(runs))["best-0"]
    assert [trace.name for trace in figure.data] == ["a/1", "b/1"]
    assert figure.layout.yaxis.title.text == "validation top-1"
    assert max(figure.data[0].y) == pytest.approx(0.85)
    assert "best-1" not in dict(module._figures(runs)), "the other search has no trial"


def test_it_loads_itself_anew_while_one_of_them_runs(runs: list[SearchRun]) -> None:
    assert 'http-equiv="refresh"' not in comparison_page(runs)
    with closing(locked(runs[2].directory)):
        again = [read_run(run.directory) for run in runs]
    assert 'http-equiv="refresh"' in comparison_page(again)


def test_searches_that_differ_in_nothing_say_so(runs: list[SearchRun]) -> None:
    assert "None but names and places." in comparison_page(runs[:2])
