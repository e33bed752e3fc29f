"""What the events say about a baseline."""

from __future__ import annotations

import pytest

from tests.tuner.tiny import baseline_events, fold
from tuner.record.baselines import BaselineRecord
from tuner.record.events import (
    BaselineFailed,
    BaselineFoldFinished,
    BaselineStarted,
    Event,
)
from tuner.record.history import SearchHistory

STARTED = BaselineStarted(baseline="fine_tuning", config={"method.name": "l2"}, num_folds=3, time_s=5.0)


def finished(k: int, score: float) -> BaselineFoldFinished:
    return BaselineFoldFinished(baseline="fine_tuning", result=fold(k, score), time_s=5.0 + k)


def record_of(*events: Event) -> BaselineRecord:
    return SearchHistory.of(events).baselines["fine_tuning"]


def test_folds_end_in_any_order_and_are_kept_in_that_of_their_numbers() -> None:
    part = record_of(STARTED, finished(3, 0.9), finished(1, 0.5))
    assert (part.state, part.val_top1, part.missing_folds) == ("running", None, [2])
    whole = record_of(STARTED, finished(3, 0.9), finished(1, 0.5), finished(2, 0.7))
    assert (whole.state, whole.val_top1, whole.missing_folds) == ("complete", pytest.approx(0.7), [])
    assert whole.fold_scores == [0.5, 0.7, 0.9]
    assert (whole.label, whole.config) == ("fine-tuning", {"method.name": "l2"})
    assert (whole.started_s, whole.ended_s) == (5.0, 7.0)


def test_one_that_failed_has_no_score_and_is_not_repeated() -> None:
    failed = record_of(STARTED, finished(1, 0.5), BaselineFailed(baseline="fine_tuning", reason="fold 2 diverged"))
    assert (failed.state, failed.val_top1, failed.missing_folds) == ("failed", None, [])
    assert failed.reason == "fold 2 diverged"


def test_one_that_could_not_be_built_has_no_configuration() -> None:
    failed = record_of(BaselineFailed(baseline="fine_tuning", reason="expected one thing, got another"))
    assert (failed.state, failed.config, failed.folds) == ("failed", {}, [])


def test_each_baseline_is_its_own() -> None:
    history = SearchHistory.of([STARTED, *baseline_events("linear_probe", [0.5])])
    assert list(history.baselines) == ["fine_tuning", "linear_probe"]
    assert history.baselines["fine_tuning"].folds == []
