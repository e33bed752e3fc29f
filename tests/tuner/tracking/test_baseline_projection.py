"""What MLflow shows of baselines: runs of their own, and how the best trial stands to them."""

from __future__ import annotations

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tiny import baseline_events
from tests.tuner.tracking.searches import (
    RUN,
    Store,
    finish_search,
    interrupt_search,
    retrain,
    run_trial,
    start_search,
)
from tuner.experiment.settings import Baseline
from tuner.record.events import BaselineFailed, BaselineRetrainingFailed, Event, ModelRegistered
from tuner.record.journal import SearchJournal
from tuner.tracking.projection import Projection
from tuner.tracking.registry import has_model

pytestmark = MLFLOW_LEAKS


def append(journal: SearchJournal, events: list[Event]) -> None:
    for event in events:
        journal.append(event)


def folds_of(name: Baseline, *scores: float) -> list[Event]:
    return baseline_events(name, scores)


def search_with_baselines(journal: SearchJournal) -> None:
    start_search(journal)
    probe, plain = (
        baseline_events("linear_probe", [0.5, 0.6], [0.55]),
        baseline_events("fine_tuning", [0.6, 0.8], [0.8]),
    )
    append(journal, probe[:3] + plain[:3])
    run_trial(journal, 0, [0.7, 0.8])
    retrain(journal, 0)
    retrain(journal, 1)
    append(journal, probe[3:] + plain[3:])
    journal.append(BaselineRetrainingFailed(baseline="fine_tuning", seed=1, reason="diverged"))
    finish_search(journal)


def test_each_has_a_run_and_each_of_its_retrainings_another(
    projection: Projection, journal: SearchJournal, store: Store
) -> None:
    search_with_baselines(journal)
    projection.advance()
    runs = store.runs
    retrainings = {"retrain-linear_probe-seed-0", "retrain-fine_tuning-seed-0", "retrain-fine_tuning-seed-1"}
    assert runs.keys() - {RUN, "trial-0000", "retrain-seed-0", "retrain-seed-1"} == retrainings | {
        "baseline-linear_probe",
        "baseline-fine_tuning",
    }
    probe = runs["baseline-linear_probe"]
    assert probe.data.tags["mlflow.parentRunId"] == runs[RUN].info.run_id
    assert {"baseline": "linear_probe", "state": "complete", "reason": ""}.items() <= probe.data.tags.items()
    assert probe.data.metrics["val_top1"] == pytest.approx(0.55)
    assert (probe.data.metrics["fold_1/val_top1"], probe.data.metrics["fold_2/val_top1"]) == (0.5, 0.6)
    assert store.series("baseline-linear_probe", "fold_val_top1") == [(1, 0.5), (2, 0.6)]
    assert probe.data.params["method.name"] == "feature_extraction"
    assert probe.info.status == "FINISHED"
    assert runs["retrain-linear_probe-seed-0"].data.metrics["test_top1"] == 0.55
    assert runs["retrain-fine_tuning-seed-1"].info.status == "FAILED"


def test_the_parent_says_how_the_best_stands_to_each(
    projection: Projection, journal: SearchJournal, store: Store
) -> None:
    search_with_baselines(journal)
    projection.advance()
    metrics = store.runs[RUN].data.metrics
    assert (metrics["linear_probe/val_top1"], metrics["linear_probe/test_top1"]) == (pytest.approx(0.55), 0.55)
    assert metrics["best_minus_linear_probe/val_top1"] == pytest.approx(0.2)
    assert metrics["best_minus_linear_probe/test_top1"] == pytest.approx(0.355)  # 0.90 and 0.91
    low, high = (metrics[f"best_minus_linear_probe/test_top1_{end}"] for end in ("low", "high"))
    assert (low + high) / 2 == pytest.approx(0.355)
    assert metrics["best_minus_fine_tuning/test_top1"] == pytest.approx(0.1), "of the one seed that both have"
    assert "best_minus_fine_tuning/test_top1_low" not in metrics
    assert "winner" not in store.runs[RUN].data.tags


def test_writing_them_again_changes_nothing(projection: Projection, journal: SearchJournal, store: Store) -> None:
    search_with_baselines(journal)
    projection.advance()
    before = store.snapshot()
    projection.forget()
    projection.advance()
    assert store.snapshot() == before


def test_one_that_failed_says_why(projection: Projection, journal: SearchJournal, store: Store) -> None:
    start_search(journal)
    journal.append(BaselineFailed(baseline="linear_probe", reason="fold 1 collapsed"))
    projection.advance()
    run = store.runs["baseline-linear_probe"]
    assert run.info.status == "FAILED"
    assert run.data.tags["reason"] == "fold 1 collapsed"


def test_one_that_was_cut_off_is_killed_and_goes_on_with_its_search(
    projection: Projection, journal: SearchJournal, store: Store
) -> None:
    start_search(journal)
    started, first, second = folds_of("fine_tuning", 0.5, 0.7)
    append(journal, [started, first])
    interrupt_search(journal)
    projection.advance()
    assert store.runs["baseline-fine_tuning"].info.status == "KILLED"
    start_search(journal)
    projection.advance()
    assert store.runs["baseline-fine_tuning"].info.status == "RUNNING"
    journal.append(second)
    projection.advance()
    run = store.runs["baseline-fine_tuning"]
    assert (run.info.status, run.data.metrics["val_top1"]) == ("FINISHED", pytest.approx(0.6))


def test_a_winner_is_named_and_its_model_is_looked_for_at_its_own_retraining(
    projection: Projection, journal: SearchJournal, store: Store, uri: str
) -> None:
    start_search(journal)
    append(journal, baseline_events("linear_probe", [0.9, 0.9], [0.8]))
    run_trial(journal, 0, [0.7, 0.8])
    journal.append(ModelRegistered(baseline="linear_probe", uri="models:/digits@champion"))
    interrupt_search(journal, best_trial=0, best_baseline="linear_probe")
    projection.advance()
    tags = store.runs[RUN].data.tags
    assert (tags["winner"], tags["best_trial"]) == ("linear_probe", "trial-0000")
    assert tags["model_uri"] == "models:/digits@champion"
    assert not has_model(uri, "smile-digits", RUN, 0, "digits", "linear_probe"), "there is such a run, without a model"
