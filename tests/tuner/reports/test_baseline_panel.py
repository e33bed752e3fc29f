"""The baselines in the report: the table, the lines in the plot, and which one won."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import plotly.graph_objects as go
import pytest

from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import baseline_events
from tuner.record.events import BaselineFailed
from tuner.reports import page
from tuner.reports.baseline_panel import baseline_rows, with_baselines
from tuner.reports.page import report_page
from tuner.reports.search_result import BASELINE_WON, closing_lines
from tuner.reports.search_run import SearchRun, best_space, read_run


@pytest.fixture(autouse=True)
def no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two megabytes that no test here looks into."""
    monkeypatch.setattr(page, "packed_plotly", lambda: "cGxvdGx5")


def run_of(folder: Path, probe: float = 0.7) -> SearchRun:
    failed = BaselineFailed(baseline="fine_tuning", reason="fold 1 <diverged>")
    events = [*baseline_events("linear_probe", [probe, probe], [0.6]), failed]
    return read_run(write_search(folder / "run", baselines=events))


def test_the_best_trial_and_each_baseline_have_a_row(tmp_path: Path) -> None:
    best, probe, plain = baseline_rows(run_of(tmp_path).result)
    assert (best.name, best.validation, best.folds, best.is_winner) == ("trial-0001", "0.8500", "0.8000 0.9000", True)
    assert (probe.name, probe.validation, probe.test, probe.is_winner) == ("linear probe", "0.7000", "0.6000", False)
    assert probe.difference_val.startswith("+15.0 points (")
    assert (probe.difference_test, plain.difference_val) == ("–", "–")
    assert (plain.name, plain.validation, plain.folds) == ("fine-tuning", "–", "fold 1 <diverged>")


def test_without_baselines_there_is_no_table(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run"))
    assert list(baseline_rows(run.result)) == []
    assert "Against the baselines" not in report_page(run)


def test_the_page_has_the_table_and_a_line_in_the_plot_of_all_trials(tmp_path: Path) -> None:
    text = report_page(run_of(tmp_path))
    assert text.index("Against the baselines") < text.index("How it went</h2>")
    assert "fold 1 &lt;diverged&gt;" in text
    assert BASELINE_WON not in text
    match = re.search(r'id="figures">(.*?)</script>', text, re.DOTALL)
    assert match is not None
    history = json.loads(unescape(match[1]))["history"]["layout"]
    assert [shape["y0"] for shape in history["shapes"]] == [pytest.approx(0.7)]
    assert [note["text"] for note in history["annotations"]] == ["linear probe 0.7000"]


def test_labels_of_two_scores_that_are_close_do_not_meet(tmp_path: Path) -> None:
    events = [*baseline_events("linear_probe", [0.71, 0.71], [0.6]), *baseline_events("fine_tuning", [0.7, 0.7], [0.6])]
    run = read_run(write_search(tmp_path / "run", baselines=events))
    figure = with_baselines(go.Figure(), run.history.baselines.values())
    assert [(note.text, note.yanchor) for note in figure.layout.annotations] == [
        ("fine-tuning 0.7000", "top"),
        ("linear probe 0.7100", "bottom"),
    ]


def test_a_baseline_that_won_is_named_and_is_the_best_configuration(tmp_path: Path) -> None:
    run = run_of(tmp_path, probe=0.95)
    text = report_page(run)
    assert f"<strong>linear probe</strong>: {BASELINE_WON}." in text
    assert f"  winner         the linear probe: {BASELINE_WON}" in closing_lines(run.result, run.history)
    alone = best_space(run)
    assert alone is not None
    assert (alone.fixed["method"]["name"], alone.fixed["training"]["num_steps"]) == ("feature_extraction", 0)
    assert (alone.dimensions, alone.search.baselines) == ({}, ())
