"""The table of trials, and what is said of those that failed or were stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tuner.reports.searches import MIXED, many, write_search
from tests.tuner.tiny import record, space_of
from tuner.reports.search_run import SearchRun, read_run
from tuner.reports.trial_table import failures_of, headings_of, racing_sentence, rows_of, state_counts, stopping_places


def run_of(directory: Path, *arguments: Any, **changes: Any) -> SearchRun:
    return read_run(write_search(directory / "run", *arguments, **changes))


def test_a_row_has_a_cell_for_each_heading(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    headings = [heading.name for heading in headings_of(run)]
    assert headings == ["trial", "state", "top-1", "folds", "gamma_fe", "alpha", "training", "source", "reason"]
    first, *_, failed = rows_of(run)
    assert (first.mean, first.folds, first.duration, first.source) == ("0.5500", "0.5000 0.6000", "0:06", "first point")
    assert first.params[1] == (0.1, "0.1")
    assert (failed.mean, failed.duration, failed.duration_s) == (None, "–", None)
    assert len(rows_of(run)) == len(MIXED)
    assert state_counts(run) == "2 complete, 1 pruned, 1 failed"


def test_reasons_are_counted_and_the_most_frequent_comes_first() -> None:
    failed = [record(n, [], "failed") for n in range(8)]
    for trial in failed:
        trial.reason = "diverged" if trial.number else "killed"
    assert list(failures_of([*failed, record(9, [0.5])])) == [
        ("diverged", "trial-0001, trial-0002, trial-0003, trial-0004, trial-0005 and 2 more"),
        ("killed", "trial-0000"),
    ]


def test_where_trials_were_stopped_is_counted(tmp_path: Path) -> None:
    stopped = [("pruned", (0.2,), "behind")] * 2
    assert list(stopping_places(run_of(tmp_path, [*MIXED, *stopped]))) == ["3 trials after fold 1"]


def test_what_racing_saved_is_counted(tmp_path: Path) -> None:
    said = racing_sentence(run_of(tmp_path))
    assert said == (
        "5 of 8 fold trainings were done: racing spared 1 of them (12%) by stopping 1 trial early. "
        "2 are missing of trials that failed."
    )
    off = run_of(tmp_path / "off", many(3), space=space_of(search__racing={"rule": "none"}))
    assert racing_sentence(off) == "6 of 6 fold trainings were done. No trial was stopped early; racing was off."
