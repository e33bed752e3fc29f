"""Journals of searches, written without running any, and what MLflow has of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from tuner.record.background import BackgroundSync
from tuner.record.journal import Journal
from tuner.tracking.projection import Projection

RUN = "2025-01-31_12-00-00"
NAME = "smile-digits"
DEAD = "http://robot:hunter2@127.0.0.1:9"


@contextmanager
def ticking_journal(directory: Path) -> Iterator[Journal]:
    """A journal whose clock starts at 1000 s and ticks once an event."""
    clock = iter(range(1000, 2000))
    with pytest.MonkeyPatch.context() as patch, closing(Journal(directory)) as journal:
        patch.setattr("tuner.record.journal.time", SimpleNamespace(time=lambda: float(next(clock))))
        yield journal


def fold(k: int, val_top1: float, **changes: Any) -> dict[str, Any]:
    terms = {"loss_steps": [1, 10], "loss_terms": {"target_label": [2.0, 1.0], "teacher": [0.5, 0.25]}}
    return {"fold": k, "val_top1": val_top1, "duration_s": 1.5, **terms, **changes}


def start_search(journal: Journal, run: str = RUN) -> None:
    journal.append(
        "search_started",
        name=NAME,
        run=run,
        space={"name": NAME},
        params={"data.dataset": "digits", "data.train_images": None, "data.flip": True},
        dimensions={"gamma_fe": "log_uniform [0.01, 0.1]"},
    )


def start_trial(journal: Journal, number: int, gamma_fe: float = 0.05) -> None:
    config = {"method.gamma_fe": gamma_fe, "data.dataset": "digits"}
    journal.append(
        "trial_started", trial=number, params={"gamma_fe": gamma_fe}, config=config, source="sampler", attrs={}
    )


def run_trial(journal: Journal, number: int, scores: list[float], state: str = "complete", reason: str = "") -> None:
    start_trial(journal, number)
    for k, score in enumerate(scores, start=1):
        journal.append("fold_finished", trial=number, result=fold(k, score))
    journal.append("trial_finished", trial=number, state=state, reason=reason)


def retrain(journal: Journal, seed: int) -> None:
    curves = {"loss_steps": [1, 5], "loss_terms": {"target_label": [2.0, 0.1]}}
    journal.append("retrain_finished", trial=0, seed=seed, test_top1=0.9 + seed / 100, duration_s=2.0, **curves)


def finish_search(journal: Journal) -> None:
    numbers = {"val_top1": 0.75, "test_top1_mean": 0.905, "test_top1_sd": 0.007, "seconds": 20.0}
    journal.append("search_finished", why="all trials done", best_trial=0, **numbers)


def whole_search(journal: Journal, run: str = RUN) -> None:
    (journal.directory / "space.yaml").write_text("name: smile-digits\ntracking: {uri: 'http://a:b@host/'}\n")
    (journal.directory / "environment.json").write_text("{}")
    start_search(journal, run)
    run_trial(journal, 0, [0.7, 0.8])
    run_trial(journal, 1, [0.5], "pruned", "fold 1 is too far behind")
    run_trial(journal, 2, [], "failed", "diverged: target_label is not finite at step 3")
    run_trial(journal, 3, [0.6, 0.7])
    retrain(journal, 0)
    retrain(journal, 1)
    journal.append("model_registered", trial=1, uri="models:/digits@champion")
    finish_search(journal)


def project(uri: str, directory: Path, all_at_once: Barrier) -> None:
    """What a process does that carries over one search beside others."""
    tracker = BackgroundSync(Projection(uri, NAME, directory))
    all_at_once.wait()
    sys.exit(not tracker.close(300))


class Store:
    """What is in MLflow, for assertions."""

    def __init__(self, uri: str, experiment: str = NAME) -> None:
        self.client = MlflowClient(uri)
        self.experiment = experiment

    @property
    def runs(self) -> dict[str, Run]:
        experiment = self.client.get_experiment_by_name(self.experiment)
        assert experiment is not None
        runs = self.client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
        by_name = {run.info.run_name: run for run in runs}
        assert len(by_name) == len(runs), "two runs of one name"
        return by_name

    def series(self, name: str, key: str) -> list[tuple[int, float]]:
        history = self.client.get_metric_history(self.runs[name].info.run_id, key)
        return sorted((point.step, point.value) for point in history)

    def points(self, run_id: str, key: str) -> list[tuple[int, int, float]]:
        """Step, time and value of every point that a run has of a metric."""
        history = self.client.get_metric_history(run_id, key)
        return sorted((point.step, point.timestamp, point.value) for point in history)

    def snapshot(self) -> dict[str, Any]:
        """Everything of every run that may not change when events are carried over again."""
        return {
            name: (
                run.info.status,
                run.info.start_time,
                run.info.end_time,
                run.data.params,
                {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.log")},
                {key: self.points(run.info.run_id, key) for key in run.data.metrics},
            )
            for name, run in self.runs.items()
        }
