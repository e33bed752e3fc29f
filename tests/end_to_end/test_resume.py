"""A search that is cut off goes on where it stopped, and comes to what it would have come to."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.end_to_end.conftest import Interrupted, Run

pytestmark = pytest.mark.slow


def test_ctrl_c_says_how_to_go_on(interrupted: Interrupted) -> None:
    first = interrupted.first
    assert first.code == 1
    assert "Traceback" not in first.out + first.err
    assert "interrupted: every finished fold is kept" in first.out
    assert f"python -m tuner.report {first.directory}" in first.out
    assert f"python -m tuner.search --space {first.directory / 'space.yaml'} --resume" in first.out


def test_what_was_finished_is_kept(interrupted: Interrupted) -> None:
    kinds = Counter(event["event"] for event in interrupted.events)
    assert kinds["trial_started"] == 1
    assert kinds["fold_finished"] == 1
    assert interrupted.events[-1]["why"] == "interrupted"
    assert interrupted.second.events[: len(interrupted.events)] == interrupted.events


def test_it_goes_on_to_exactly_as_many_trials_as_asked(interrupted: Interrupted) -> None:
    second = interrupted.second
    assert second.code == 0, second.out + second.err
    assert second.outcome["trials"] == {"running": 0, "complete": 3, "pruned": 0, "failed": 0}


def test_no_fold_is_trained_twice(interrupted: Interrupted) -> None:
    folds = [(e["trial"], e["result"]["fold"]) for e in interrupted.second.events if e["event"] == "fold_finished"]
    assert folds == [(number, fold) for number in range(3) for fold in (1, 2)]


def test_two_searches_give_equal_trials_whether_or_not_one_was_cut_off(finished: Run, interrupted: Interrupted) -> None:
    assert trials_of(interrupted.second) == trials_of(finished)
    keys = ("best_trial", "best_params", "fold_scores", "test_scores")
    assert {key: interrupted.second.outcome[key] for key in keys} == {key: finished.outcome[key] for key in keys}


def trials_of(run: Run) -> dict[int, tuple[dict[str, Any], list[Any]]]:
    """Parameters, and scores and losses of the folds, of every trial."""
    trials = {e["trial"]: (e["params"], []) for e in run.events if e["event"] == "trial_started"}
    for event in run.events:
        if event["event"] == "fold_finished":
            trials[event["trial"]][1].append((event["result"]["val_top1"], event["result"]["loss_terms"]))
    return trials
