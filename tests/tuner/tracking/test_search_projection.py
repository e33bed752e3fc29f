"""What MLflow shows of a search: one run for it, one for each trial and for each retraining."""

from __future__ import annotations

from typing import Any

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import (
    FIXED,
    RUN,
    SPACE,
    Store,
    end_trial,
    finish_fold,
    finish_search,
    interrupt_search,
    run_trial,
    start_search,
    start_trial,
)
from trainables.results import EnsembleResult, FoldResult, TrainingFacts
from tuner.experiment.precision import Precisions
from tuner.record.directory import RunDirectory
from tuner.record.events import (
    EnsembleTested,
    FoldFinished,
    HardwareInspected,
    ModelRegistered,
    RetrainingFailed,
    TrialStarted,
)
from tuner.record.examples import ExampleNames
from tuner.record.journal import SearchJournal
from tuner.tracking.description import TAG as DESCRIPTION
from tuner.tracking.projection import Projection
from tuner.tracking.run_writer import run_name

pytestmark = MLFLOW_LEAKS


def test_a_whole_search(finished: Store) -> None:
    runs = finished.runs
    trials = {f"trial-{number:04d}" for number in range(4)}
    assert runs.keys() == {RUN, "retrain-seed-0", "retrain-seed-1"} | trials
    parent = runs[RUN]
    for name in runs.keys() - {RUN}:
        assert runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert {name: runs[name].data.tags["state"] for name in sorted(trials)} == {
        "trial-0000": "complete",
        "trial-0001": "pruned",
        "trial-0002": "failed",
        "trial-0003": "complete",
    }
    assert {name: run.info.status for name, run in runs.items() if run.info.status != "FINISHED"} == {
        "trial-0002": "FAILED"
    }


def test_the_parent(finished: Store) -> None:
    parent = finished.runs[RUN]
    assert parent.data.params == {**FIXED, "gamma_fe": "log_uniform [0.01, 0.1]"}
    expected_tags = {"search_run": RUN, "best_trial": "trial-0000", "why": "all trials done"}
    assert expected_tags.items() <= parent.data.tags.items()
    assert parent.data.tags["model_uri"] == "models:/digits@champion"
    assert parent.data.metrics == {
        "best_val_top1": 0.75,
        "test_top1_mean": 0.905,
        "test_top1_sd": 0.007,
        "duration_s": 20.0,
    }
    assert finished.series(RUN, "best_val_top1") == [(1, 0.75), (2, 0.75), (3, 0.75), (4, 0.75)]
    artifacts = finished.client.list_artifacts(parent.info.run_id)
    assert sorted(file.path for file in artifacts) == ["environment.json", "space.yaml"]


def test_a_trial(finished: Store) -> None:
    run = finished.runs["trial-0000"]
    assert run.data.params == {**FIXED, "gamma_fe": "0.05", "method.gamma_fe": "0.05", "seed": "7"}
    assert {"trial_id": "trial-0000", "source": "sampler", "search_run": RUN}.items() <= run.data.tags.items()
    assert run.data.metrics["val_top1"] == 0.75
    assert run.data.metrics["duration_s"] == 3.0
    assert (run.data.metrics["fold_1/val_top1"], run.data.metrics["fold_2/val_top1"]) == (0.7, 0.8)
    assert finished.series("trial-0000", "fold_val_top1") == [(1, 0.7), (2, 0.8)]
    assert finished.series("trial-0000", "fold_2/loss/target_label") == [(1, 2.0), (10, 1.0)]
    assert (run.info.start_time, run.info.end_time) == (1_001_000, 1_004_000)


def test_what_was_retrained_has_its_mean_test_score_and_no_other_trial(finished: Store) -> None:
    assert finished.series("trial-0000", "test_top1") == [(1, 0.9), (2, 0.905)]
    for name in ("trial-0001", "trial-0003"):
        assert "test_top1" not in finished.runs[name].data.metrics


def test_each_run_says_its_kind(finished: Store) -> None:
    kinds = {name: run.data.tags["kind"] for name, run in finished.runs.items()}
    assert kinds == {
        RUN: "parent",
        **{f"trial-{number:04d}": "trial" for number in range(4)},
        **{f"retrain-seed-{seed}": "retraining" for seed in range(2)},
    }


def test_the_registered_model_is_scored_at_the_parent_also_if_it_is_registered_later(
    projection: Projection, journal: SearchJournal, directory: RunDirectory, store: Store
) -> None:
    ExampleNames(class_names=("a",), train=(), test=tuple(map(str, range(100)))).write(directory)
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    finish_search(journal)
    projection.advance()
    assert "models:/digits/1" not in store.runs[RUN].data.tags[DESCRIPTION]
    journal.append(ModelRegistered(trial=0, uri="models:/digits/1", seed=0, test_top1=0.9))
    projection.advance()
    parent = store.runs[RUN].data
    found = [parent.metrics[key] for key in ("test_top1", "test_top1_low", "test_top1_high")]
    assert found == pytest.approx([0.9, 0.8256, 0.9448], abs=1e-4)
    assert "models:/digits/1" in parent.tags[DESCRIPTION]


def test_only_a_complete_trial_has_a_mean(finished: Store) -> None:
    pruned = finished.runs["trial-0001"]
    assert "val_top1" not in pruned.data.metrics
    assert pruned.data.metrics["fold_1/val_top1"] == 0.5
    assert pruned.data.tags["reason"] == "fold 1 is too far behind"
    assert finished.runs["trial-0002"].data.tags["reason"] == "diverged: target_label is not finite at step 3"


def test_a_retraining(finished: Store) -> None:
    run = finished.runs["retrain-seed-1"]
    assert run.data.tags["retrain_seed"] == "1"
    assert run.data.metrics["test_top1"] == 0.91
    assert finished.series("retrain-seed-1", "loss/target_label") == [(1, 2.0), (5, 0.1)]
    assert run.info.end_time - run.info.start_time == 2000
    assert run.data.tags["of_trial"] == "trial-0000"
    assert run.data.params == {"gamma_fe": "0.05"}


@pytest.mark.parametrize(
    ("baseline", "name"), [(None, "retrain-ensemble"), ("linear_probe", "retrain-linear_probe-ensemble")]
)
def test_an_ensemble_has_a_run_of_its_own(
    projection: Projection, journal: SearchJournal, store: Store, baseline: Any, name: str
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    result = EnsembleResult("weights", [0, 2], 0.93, 1.5)
    journal.append(EnsembleTested(trial=None if baseline else 0, baseline=baseline, result=result))
    projection.advance()
    run = store.runs[name]
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"test_top1": 0.93, "duration_s": 1.5})
    assert {"mean_of": "weights", "seeds": "0 2"}.items() <= run.data.tags.items()
    assert run_name(run.data.tags) == name
    assert store.runs[RUN].data.metrics["test_top1_ensemble"] == 0.93


def test_a_search_that_was_cut_off_is_killed_and_its_trials_go_on_with_it(
    projection: Projection, journal: SearchJournal, store: Store
) -> None:
    start_search(journal)
    start_trial(journal, 0)
    interrupt_search(journal)
    projection.advance()
    assert {name: run.info.status for name, run in store.runs.items()} == {RUN: "KILLED", "trial-0000": "KILLED"}
    start_search(journal)
    projection.advance()
    assert {name: run.info.status for name, run in store.runs.items()} == {RUN: "RUNNING", "trial-0000": "RUNNING"}
    assert store.runs["trial-0000"].data.tags["state"] == "running"


def test_the_hardware_is_tags_of_the_search(projection: Projection, journal: SearchJournal, store: Store) -> None:
    start_search(journal)
    journal.append(HardwareInspected(devices=("NVIDIA L4", "Tesla T4"), precisions=Precisions(training="fp16")))
    projection.advance()
    tags = store.runs[RUN].data.tags
    assert (tags["devices"], tags["auto_precision"]) == ("NVIDIA L4; Tesla T4", "fp16")


def test_what_a_fold_ran_on_is_tags_of_its_trial(projection: Projection, journal: SearchJournal, store: Store) -> None:
    start_search(journal)
    facts = TrainingFacts("Tesla T4", "fp16", examples_per_s=250.0, skipped_steps=2)
    journal.append(TrialStarted(trial=0, params={}, source="sampler"))
    journal.append(FoldFinished(trial=0, result=FoldResult(1, 0.5, 1.0, facts=facts)))
    projection.advance()
    data = store.runs["trial-0000"].data
    assert (data.tags["device"], data.tags["precision"]) == ("Tesla T4", "fp16")
    assert (data.metrics["fold_1/examples_per_s"], data.metrics["fold_1/skipped_steps"]) == (250.0, 2.0)


def test_a_retraining_that_broke_off_is_there_and_failed(
    projection: Projection, journal: SearchJournal, store: Store
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    journal.append(RetrainingFailed(trial=0, seed=1, reason="diverged"))
    projection.advance()
    run = store.runs["retrain-seed-1"]
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "diverged")


def test_a_learning_curve_is_a_metric_over_steps(projection: Projection, journal: SearchJournal, store: Store) -> None:
    start_search(journal)
    start_trial(journal, 0)
    finish_fold(journal, 0, 1, 0.5, curve_steps=[5, 10], curve_metrics={"top1": [0.25, 0.5], "log_loss": [1.0, 0.5]})
    projection.advance()
    assert store.series("trial-0000", "fold_1/curve/log_loss") == [(5, 1.0), (10, 0.5)]
    assert store.series("trial-0000", "fold_1/curve/top1") == [(5, 0.25), (10, 0.5)]


def test_every_metric_is_recorded_and_the_objective_is_followed(
    projection: Projection, journal: SearchJournal, store: Store
) -> None:
    start_search(journal, space={**SPACE, "search": {**SPACE["search"], "objective": "log_loss"}})
    for number, (losses, top1) in enumerate([([0.9, 0.7], 0.5), ([0.5, 0.25], 0.25), ([1.0, 2.0], 0.75)]):
        start_trial(journal, number)
        for k, loss in enumerate(losses, start=1):
            finish_fold(journal, number, k, top1, metrics={"top1": top1, "log_loss": loss, "macro_f1": 0.125})
        end_trial(journal, number)
    interrupt_search(journal, best_trial=1)
    projection.advance()
    metrics = store.runs["trial-0001"].data.metrics
    means = {key: value for key, value in metrics.items() if key.startswith("val_")}
    assert means == {"val_top1": 0.25, "val_log_loss": 0.375, "val_macro_f1": 0.125}
    assert (metrics["fold_2/val_log_loss"], metrics["fold_2/val_top1"]) == (0.25, 0.25)
    assert store.series("trial-0001", "fold_val_log_loss") == [(1, 0.5), (2, 0.25)]
    assert store.series(RUN, "best_val_log_loss") == [(1, 0.8), (2, 0.375), (3, 0.375)]
    assert "best_val_top1" not in store.runs[RUN].data.metrics
    description = store.runs[RUN].data.tags["mlflow.note.content"]
    assert "**trial-0001**, the best of 3: validation log loss 0.3750 (top-1 0.2500)" in description
