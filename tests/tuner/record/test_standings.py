"""How the best trial stands to each baseline."""

from __future__ import annotations

import pytest

from tests.tuner.tiny import baseline_events, history_of, record
from trainables.results import RetrainResult
from tuner.record.differences import fold_difference
from tuner.record.events import BaselineFailed, RetrainingFinished
from tuner.record.history import SearchHistory
from tuner.record.standings import retraining_scores, standings_of


def history(*test_scores: float) -> SearchHistory:
    """Two trials of three folds, the second the better; its test scores by seed."""
    known = history_of(record(0, [0.5, 0.5, 0.5]), record(1, [0.9, 0.8, 0.7]))
    for seed, score in enumerate(test_scores):
        known.apply(RetrainingFinished(trial=1, result=RetrainResult(seed, score, 1.0, [], {})))
    return known


def add(known: SearchHistory, name: str, scores: list[float], *test_scores: float) -> None:
    for event in baseline_events(name, scores, test_scores):  # type: ignore[arg-type]
        known.apply(event)


def test_validation_is_paired_over_folds() -> None:
    known = history()
    add(known, "fine_tuning", [0.8, 0.8, 0.5])
    (standing,) = standings_of(known, num_parts=3)
    assert standing.val == fold_difference([0.9, 0.8, 0.7], [0.8, 0.8, 0.5], 3)
    assert standing.val is not None
    assert standing.val.mean == pytest.approx(0.1)
    assert (standing.test, standing.test_scores) == (None, {})


def test_the_test_split_is_paired_over_seeds() -> None:
    known = history(0.9, 0.8)
    add(known, "fine_tuning", [0.5, 0.5, 0.5], 0.6, 0.7, 0.1)
    (standing,) = standings_of(known, num_parts=3)
    assert standing.test is not None
    assert (standing.test.mean, standing.test.num_pairs) == (pytest.approx(0.2), 2)


def test_a_linear_probe_is_the_same_for_every_seed() -> None:
    known = history(0.9, 0.8, 0.7)
    add(known, "linear_probe", [0.5, 0.5, 0.5], 0.6)
    (standing,) = standings_of(known, num_parts=3)
    assert standing.test is not None
    assert (standing.test.mean, standing.test.num_pairs) == (pytest.approx(0.2), 3)
    assert retraining_scores(known, known.baselines["linear_probe"]) == {0: 0.6}


def test_without_both_scores_there_is_no_difference() -> None:
    known = history(0.9)
    known.apply(BaselineFailed(baseline="linear_probe", reason="random weights"))
    add(known, "fine_tuning", [0.5, 0.5])  # of a search that had other folds
    assert [(standing.val, standing.test) for standing in standings_of(known, 3)] == [(None, None), (None, None)]
    without_trials = SearchHistory.of(baseline_events("fine_tuning", [0.5, 0.5, 0.5], [0.6]))
    (standing,) = standings_of(without_trials, 3)
    assert (standing.val, standing.test, standing.test_scores) == (None, None, {0: 0.6})
