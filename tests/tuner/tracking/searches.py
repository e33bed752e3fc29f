"""Journals of searches, written without running any, and what MLflow has of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from multiprocessing.synchronize import Barrier
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from trainables.results import FoldResult, RetrainResult
from tuner.record.background import BackgroundSync
from tuner.record.directory import RunDirectory
from tuner.record.events import (
    FoldFinished,
    ModelRegistered,
    RetrainingFinished,
    SearchEnded,
    SearchStarted,
    TrialEnded,
    TrialStarted,
)
from tuner.record.history import SearchHistory
from tuner.record.journal import E, H, Journal, SearchJournal
from tuner.tracking.projection import Projection

RUN = "2025-01-31_12-00-00"
NAME = "smile-digits"
DEAD = "http://robot:hunter2@127.0.0.1:9"
SPACE: dict[str, Any] = {
    "name": NAME,
    "data": {"dataset": "digits", "train_images": None, "flip": True},
    "method": {"gamma_fe": {"log_uniform": [0.01, 0.1]}},
    "search": {"folds": 2, "seed": 7},
}
FIXED = {"data.dataset": "digits", "data.train_images": "null", "data.flip": "true"}
"""Its fixed leaves, as MLflow shows them."""


class TickingJournal(Journal[H]):
    """A journal whose clock starts at 1000 s and ticks once an event."""

    def __init__(self, directory: RunDirectory, history: H) -> None:
        super().__init__(directory, history)
        self._clock = count(1000)

    def append(self, event: E) -> E:
        return super().append(event.model_copy(update={"time_s": float(next(self._clock))}))


@contextmanager
def ticking_journal(directory: RunDirectory) -> Iterator[SearchJournal]:
    with closing(TickingJournal(directory, SearchHistory())) as journal:
        yield journal


def fold(k: int, val_top1: float, **changes: Any) -> FoldResult:
    terms = {"loss_steps": [1, 10], "loss_terms": {"target_label": [2.0, 1.0], "teacher": [0.5, 0.25]}}
    return FoldResult(k, val_top1, 1.5, **{**terms, **changes})


def start_search(journal: SearchJournal, run: str = RUN, space: dict[str, Any] = SPACE, **changes: Any) -> None:
    dimensions = {"method.gamma_fe": "log_uniform [0.01, 0.1]"}
    journal.append(SearchStarted(name=NAME, run=run, space=space, dimensions=dimensions, **changes))


def start_trial(journal: SearchJournal, number: int, gamma_fe: float = 0.05) -> None:
    journal.append(TrialStarted(trial=number, params={"method.gamma_fe": gamma_fe}, source="sampler"))


def finish_fold(journal: SearchJournal, number: int, k: int, val_top1: float, **changes: Any) -> None:
    journal.append(FoldFinished(trial=number, result=fold(k, val_top1, **changes)))


def end_trial(
    journal: SearchJournal,
    number: int,
    state: Literal["complete", "pruned", "failed"] = "complete",
    reason: str = "",
) -> None:
    journal.append(TrialEnded(trial=number, state=state, reason=reason))


def run_trial(
    journal: SearchJournal,
    number: int,
    scores: list[float],
    state: Literal["complete", "pruned", "failed"] = "complete",
    reason: str = "",
) -> None:
    start_trial(journal, number)
    for k, score in enumerate(scores, start=1):
        finish_fold(journal, number, k, score)
    end_trial(journal, number, state, reason)


def retrain(journal: SearchJournal, seed: int) -> None:
    result = RetrainResult(seed, 0.9 + seed / 100, 2.0, [1, 5], {"target_label": [2.0, 0.1]})
    journal.append(RetrainingFinished(trial=0, result=result))


def finish_search(journal: SearchJournal) -> None:
    journal.append(
        SearchEnded(
            outcome="finished",
            why="all trials done",
            best_trial=0,
            val_top1=0.75,
            test_top1_mean=0.905,
            test_top1_sd=0.007,
            duration_s=20.0,
        )
    )


def interrupt_search(journal: SearchJournal, **found: Any) -> None:
    journal.append(SearchEnded(outcome="interrupted", why="interrupted", **found))


def whole_search(journal: SearchJournal, run: str = RUN) -> None:
    journal.directory.space.write_text("name: smile-digits\ntracking: {uri: 'http://a:b@host/'}\n")
    journal.directory.environment.write_text("{}")
    start_search(journal, run)
    run_trial(journal, 0, [0.7, 0.8])
    run_trial(journal, 1, [0.5], "pruned", "fold 1 is too far behind")
    run_trial(journal, 2, [], "failed", "diverged: target_label is not finite at step 3")
    run_trial(journal, 3, [0.6, 0.7])
    retrain(journal, 0)
    retrain(journal, 1)
    journal.append(ModelRegistered(trial=1, uri="models:/digits@champion"))
    finish_search(journal)


def project(uri: str, directory: RunDirectory, all_at_once: Barrier) -> None:
    """What a process does that writes one search to MLflow beside others."""
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
        """Everything of every run that may not change when events are written again."""
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


def lose_a_trial(projection: Projection, journal: SearchJournal, store: Store) -> None:
    """A trial's run is deleted from the store, and then its first fold ends."""
    start_search(journal)
    start_trial(journal, 0)
    projection.advance()
    store.client.delete_run(store.runs["trial-0000"].info.run_id)
    finish_fold(journal, 0, 1, 0.9)
