from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tuner.tiny import baseline_events, fold, record, search_started, space_of
from trainables.results import RetrainResult
from tuner.experiment.objective import Objective
from tuner.record.events import (
    BaselineRetrainingFailed,
    CellFailed,
    CellFinished,
    ComparisonEnded,
    ComparisonStarted,
    Event,
    FoldFinished,
    ModelRegistered,
    RetrainingFailed,
    RetrainingFinished,
    RowSearched,
    SearchEnded,
    ShareGrown,
    TrialEnded,
    TrialStarted,
)
from tuner.record.history import ComparisonHistory, SearchHistory

INTERRUPTED = SearchEnded(outcome="interrupted", why="interrupted")


def trial(number: int, *scores: float, state: str = "complete", reason: str = "") -> list[Event]:
    started = TrialStarted(trial=number, params={"method.alpha": 0.5}, source="sampler")
    folds = [FoldFinished(trial=number, result=fold(k, score)) for k, score in enumerate(scores, start=1)]
    ended = [] if state == "running" else [TrialEnded(trial=number, state=state, reason=reason)]  # type: ignore[arg-type]
    return [started, *folds, *ended]


def test_only_a_complete_trial_has_a_score() -> None:
    trials = SearchHistory.of(
        [
            *trial(0, 0.5, 0.7),
            *trial(1, 0.9, state="pruned", reason="no better"),
            *trial(2, 0.4, state="failed"),
            *trial(3, 0.3, state="running"),
        ]
    ).trials
    assert [trials[number].val_top1 for number in range(4)] == [pytest.approx(0.6), None, None, None]
    assert [trials[number].state for number in range(4)] == ["complete", "pruned", "failed", "running"]
    assert trials[1].reason == "no better"


def test_a_resumed_search_has_not_ended() -> None:
    first, second = search_started(run="now"), search_started(run="now")
    history = SearchHistory.of([first, INTERRUPTED])
    assert history.ended is INTERRUPTED
    history.apply(second)
    assert history.ended is None
    assert history.started is first
    assert history.last_started is second


def test_what_a_trial_has_come_to_is_its_own() -> None:
    history = SearchHistory.of(
        [RetrainingFailed(trial=2, seed=0, reason="diverged"), ModelRegistered(trial=2, uri="models:/x@champion")]
    )
    assert history.failed_retrainings(2) == {0: "diverged"}
    assert history.failed_retrainings(1) == {}
    assert (history.model_uri(2), history.model_uri(1)) == ("models:/x@champion", None)
    assert history.model_uri("linear_probe") is None


def test_a_baselines_model_is_its_own() -> None:
    history = SearchHistory.of([ModelRegistered(baseline="linear_probe", uri="models:/x@champion")])
    assert history.has_model
    assert history.model_uri("linear_probe") == "models:/x@champion"
    assert [history.model_uri(of) for of in ("fine_tuning", 0)] == [None, None]


def test_retrainings_of_baselines_are_beside_those_of_the_best_trial() -> None:
    probe = baseline_events("linear_probe", [0.5], [0.6])
    plain = baseline_events("fine_tuning", [0.5], [0.7, 0.8])
    best = [RetrainingFinished(trial=0, result=RetrainResult(seed, 0.9, 1.0, [], {})) for seed in (1, 0)]
    diverged = BaselineRetrainingFailed(baseline="fine_tuning", seed=2, reason="diverged")
    history = SearchHistory.of([*probe, *best, *plain, diverged])
    assert {seed: result.test_top1 for seed, result in history.retrainings("fine_tuning").items()} == {0: 0.7, 1: 0.8}
    assert list(history.retrainings("linear_probe")) == [0]
    assert list(history.retrainings(0)) == [0, 1]
    assert history.failed_retrainings("fine_tuning") == {2: "diverged"}
    assert history.failed_retrainings(0) == {}


def test_baselines_leave_the_trials_as_they_are() -> None:
    *before, last = trial(0, 0.5, state="running")
    history = SearchHistory.of([*baseline_events("linear_probe", [0.5, 0.7]), *before, last])
    assert list(history.trials) == [0]
    assert history.undecided is last
    assert history.num_baseline_folds == 2


def test_a_result_that_nothing_follows_is_undecided() -> None:
    *before, last = trial(0, 0.5, state="running")
    assert SearchHistory.of([*before, last]).undecided is last
    assert SearchHistory.of([*trial(0, 0.5)]).undecided is None


def test_trainings_of_a_trial_count_folds_and_parts_of_them() -> None:
    whole = record(0, [0.5, 0.6])
    whole.discarded = (3,)
    assert whole.num_trained == 3


def test_a_share_only_grows() -> None:
    history = SearchHistory.of([ShareGrown(gpus=0.5, reason="full"), ShareGrown(gpus=0.25, reason="late news")])
    assert history.gpus == 0.5


class TestComparison:
    place = ("L²", "15 %", 0)

    def failed(self) -> CellFailed:
        return CellFailed(row="L²", column="15 %", seed=0, config={}, reason="killed", diverged=False)

    def test_a_cell_that_succeeds_at_last_has_not_failed(self) -> None:
        finished = CellFinished(
            row="L²", column="15 %", seed=0, config={}, result=RetrainResult(0, 0.5, 1.0, [], {}), measures={}
        )
        history = ComparisonHistory.of([self.failed()])
        assert list(history.cell_failures) == [self.place]
        history.apply(finished)
        assert (history.cells, history.cell_failures) == ({self.place: finished}, {})

    def test_the_choice_of_a_row_is_found_by_row_and_column(self) -> None:
        chosen = RowSearched(row="SMILE", column="15 %", trial=3, params={"method.alpha": 0.2}, val_top1=0.9)
        assert ComparisonHistory.of([chosen]).chosen == {("SMILE", "15 %"): chosen}

    def test_how_it_ended_is_a_value(self) -> None:
        started = ComparisonStarted(name="x", run="now", space={})
        ended = ComparisonEnded(outcome="failed", why="the cluster is gone")
        history = ComparisonHistory.of([started, ended])
        assert history.ended is not None
        assert history.ended.outcome == "failed"
        history.apply(started)
        assert history.ended is None


def test_scores_are_of_the_metric_that_the_search_optimises() -> None:
    metrics = {"top1": 0.5, "log_loss": 0.75, "macro_f1": 0.25}
    started = search_started(space_of(search__objective="log_loss"))
    result = replace(fold(1, 0.5), metrics=metrics)
    begun = TrialStarted(trial=0, params={}, source="sampler")
    finished = [FoldFinished(trial=0, result=result), TrialEnded(trial=0, state="complete")]
    history = SearchHistory.of([started, *baseline_events("linear_probe", [0.5]), begun, *finished])
    (trial,) = history.trials.values()
    assert (trial.fold_scores, trial.score) == ([-0.75], -0.75)
    assert (trial.fold_values, trial.value, trial.val_top1) == ([0.75], 0.75, 0.5)
    assert trial.metrics == metrics
    assert history.baselines["linear_probe"].objective == history.objective == Objective("log_loss")


def test_a_record_of_an_older_version_is_scored_by_top1() -> None:
    (trial_of_old,) = SearchHistory.of([search_started(), *trial(0, 0.5, 0.75)]).trials.values()
    assert (trial_of_old.score, trial_of_old.metrics) == (0.625, {"top1": 0.625})
