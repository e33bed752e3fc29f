"""MLflow ends up saying what the journal says, however often and after whatever mishap it is carried over."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from PIL import Image

from trainables.backbones import build_network
from trainables.config import TrialConfig
from trainables.errors import BadInput
from tuner import tracking
from tuner.classifier import Classifier, save_classifier
from tuner.journal import Journal
from tuner.tracking import (
    Projection,
    Tracker,
    TrackingFailed,
    load_model,
    prepare_store,
    register_model,
    tracking_uri,
    without_credentials,
)

RUN = "2025-01-31_12-00-00"
NAME = "smile-digits"
DEAD = "http://robot:hunter2@127.0.0.1:9"

pytestmark = [
    # MLflow leaves its pooled sqlite connections to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    # MLflow's table mappings use what SQLAlchemy 2.1 deprecates
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's schema, which takes seconds to make."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    prepare_store(f"sqlite:///{file}", "somebody-else")
    return file


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps its defaults in the environment; none of it is to reach other tests."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "experiments" / NAME / RUN


@pytest.fixture
def journal(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """A journal whose clock starts at 1000 s and ticks once an event."""
    clock = iter(range(1000, 2000))
    monkeypatch.setattr("tuner.journal.time", SimpleNamespace(time=lambda: float(next(clock))))
    journal = Journal(directory)
    yield journal
    journal.close()


@pytest.fixture
def projection(uri: str, directory: Path) -> Projection:
    return Projection(uri, NAME, directory)


def fold(k: int, val_top1: float, **changes: Any) -> dict[str, Any]:
    terms = {"loss_steps": [1, 10], "loss_terms": {"target_label": [2.0, 1.0], "teacher": [0.5, 0.25]}}
    return {"fold": k, "val_top1": val_top1, "duration_s": 1.5, **terms, **changes}


def start_search(journal: Journal) -> None:
    journal.append(
        "search_started",
        name=NAME,
        run=RUN,
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
    journal.append("retrain_finished", seed=seed, test_top1=0.9 + seed / 100, duration_s=2.0, **curves)


def finish_search(journal: Journal) -> None:
    numbers = {"val_top1": 0.75, "test_top1_mean": 0.905, "test_top1_sd": 0.007, "seconds": 20.0}
    journal.append("search_finished", why="all trials done", best_trial=0, **numbers)


def whole_search(journal: Journal) -> None:
    (journal.directory / "space.yaml").write_text("name: smile-digits\ntracking: {uri: 'http://a:b@host/'}\n")
    (journal.directory / "environment.json").write_text("{}")
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    run_trial(journal, 1, [0.5], "pruned", "fold 1 is too far behind")
    run_trial(journal, 2, [], "failed", "diverged: target_label is not finite at step 3")
    run_trial(journal, 3, [0.6, 0.7])
    retrain(journal, 0)
    retrain(journal, 1)
    journal.append("model_saved", path="experiments/model")
    finish_search(journal)


class Store:
    """What is in MLflow, for assertions."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)

    @property
    def runs(self) -> dict[str, Run]:
        experiment = self.client.get_experiment_by_name(NAME)
        assert experiment is not None
        runs = self.client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
        by_name = {run.info.run_name: run for run in runs}
        assert len(by_name) == len(runs), "two runs of one name"
        return by_name

    def series(self, name: str, key: str) -> list[tuple[int, float]]:
        history = self.client.get_metric_history(self.runs[name].info.run_id, key)
        return sorted((point.step, point.value) for point in history)

    def snapshot(self) -> dict[str, Any]:
        """Everything of every run that may not change when events are carried over again."""
        return {
            name: (
                run.info.status,
                run.info.start_time,
                run.info.end_time,
                run.data.params,
                {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.log")},
                {key: self.series(name, key) for key in run.data.metrics},
            )
            for name, run in self.runs.items()
        }


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri)


def test_a_whole_search(projection: Projection, journal: Journal, store: Store) -> None:
    whole_search(journal)
    projection.advance()
    runs = store.runs
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


def test_the_parent(projection: Projection, journal: Journal, store: Store) -> None:
    whole_search(journal)
    projection.advance()
    parent = store.runs[RUN]
    assert parent.data.params == {
        "data.dataset": "digits",
        "data.train_images": "null",
        "data.flip": "true",
        "gamma_fe": "log_uniform [0.01, 0.1]",
    }
    expected_tags = {"search_run": RUN, "best_trial": "trial-0000", "why": "all trials done"}
    assert expected_tags.items() <= parent.data.tags.items()
    assert parent.data.tags["model_path"] == "experiments/model"
    assert parent.data.metrics == {
        "best_val_top1": 0.75,
        "test_top1_mean": 0.905,
        "test_top1_sd": 0.007,
        "duration_s": 20.0,
    }
    assert store.series(RUN, "best_val_top1") == [(1, 0.75), (2, 0.75), (3, 0.75), (4, 0.75)]
    artifacts = store.client.list_artifacts(parent.info.run_id)
    assert sorted(file.path for file in artifacts) == ["environment.json", "space.yaml"]


def test_a_trial(projection: Projection, journal: Journal, store: Store) -> None:
    whole_search(journal)
    projection.advance()
    run = store.runs["trial-0000"]
    assert run.data.params == {"gamma_fe": "0.05", "method.gamma_fe": "0.05", "data.dataset": "digits"}
    assert {"trial_id": "trial-0000", "source": "sampler", "search_run": RUN}.items() <= run.data.tags.items()
    assert run.data.metrics["val_top1"] == 0.75
    assert run.data.metrics["duration_s"] == 3.0
    assert (run.data.metrics["fold_1/val_top1"], run.data.metrics["fold_2/val_top1"]) == (0.7, 0.8)
    assert store.series("trial-0000", "fold_val_top1") == [(1, 0.7), (2, 0.8)]
    assert store.series("trial-0000", "fold_2/loss/target_label") == [(1, 2.0), (10, 1.0)]
    assert (run.info.start_time, run.info.end_time) == (1_001_000, 1_004_000)


def test_only_a_complete_trial_has_a_mean(projection: Projection, journal: Journal, store: Store) -> None:
    whole_search(journal)
    projection.advance()
    pruned = store.runs["trial-0001"]
    assert "val_top1" not in pruned.data.metrics
    assert pruned.data.metrics["fold_1/val_top1"] == 0.5
    assert pruned.data.tags["reason"] == "fold 1 is too far behind"
    assert store.runs["trial-0002"].data.tags["reason"] == "diverged: target_label is not finite at step 3"


def test_a_retraining(projection: Projection, journal: Journal, store: Store) -> None:
    whole_search(journal)
    projection.advance()
    run = store.runs["retrain-seed-1"]
    assert run.data.tags["retrain_seed"] == "1"
    assert run.data.metrics["test_top1"] == 0.91
    assert store.series("retrain-seed-1", "loss/target_label") == [(1, 2.0), (5, 0.1)]
    assert run.info.end_time - run.info.start_time == 2000


def test_carrying_over_again_changes_nothing(
    projection: Projection, journal: Journal, store: Store, uri: str, directory: Path
) -> None:
    whole_search(journal)
    projection.advance()
    before = store.snapshot()
    projection.advance()
    Projection(uri, NAME, directory).advance()
    assert store.snapshot() == before
    (directory / "mlflow.json").unlink()
    Projection(uri, NAME, directory).advance()
    assert store.snapshot() == before


def test_event_by_event_is_as_good_as_all_at_once(
    journal: Journal, store: Store, uri: str, directory: Path, tmp_path: Path, empty_database: Path
) -> None:
    whole_search(journal)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    for count in range(len(lines) + 1):
        journal.path.write_bytes(b"".join(lines[:count]) + b'{"event": "torn')
        Projection(uri, NAME, directory).advance()
    stepwise = store.snapshot()
    shutil.copy(empty_database, tmp_path / "other.db")
    other = f"sqlite:///{tmp_path / 'other.db'}"
    journal.path.write_bytes(b"".join(lines))
    Projection(other, NAME, directory).advance()
    assert _without_ids(Store(other).snapshot()) == _without_ids(stepwise)


def _without_ids(snapshot: dict[str, Any]) -> dict[str, Any]:
    for _, _, _, _, tags, _ in snapshot.values():
        tags.pop("mlflow.parentRunId", None)
    return snapshot


class FailsAt:
    """Stands in for MlflowClient's methods that write: the `position`-th call fails, before or after it took effect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, position: int, after: bool) -> None:
        self.calls = 0
        for name in ("create_run", "log_batch", "update_run", "set_terminated", "log_text"):
            monkeypatch.setattr(MlflowClient, name, self._wrapped(getattr(MlflowClient, name), position, after))

    def _wrapped(self, method: Callable[..., Any], position: int, after: bool) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            failing = self.calls == position
            if failing and not after:
                raise ConnectionError("away")
            result = method(*args, **kwargs)
            if failing:
                raise ConnectionError("away")
            return result

        return wrapper


@pytest.mark.parametrize("after", [False, True])
def test_no_failed_request_leaves_a_trace(
    projection: Projection,
    journal: Journal,
    store: Store,
    directory: Path,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7])
    (directory / "space.yaml").write_text("name: smile-digits\n")
    finish_search(journal)
    with monkeypatch.context() as patch:
        counter = FailsAt(patch, 0, after)
        projection.advance()
    expected = _without_ids(store.snapshot())
    for position in range(1, counter.calls + 1):
        shutil.copy(empty_database, tmp_path / f"{position}.db")
        uri = f"sqlite:///{tmp_path / f'{position}.db'}"
        failing = Projection(uri, NAME, directory)
        with monkeypatch.context() as patch:
            FailsAt(patch, position, after)
            with pytest.raises(ConnectionError):
                failing.advance()
        next_try = failing if position % 2 else Projection(uri, NAME, directory)  # as after a crash
        next_try.advance()
        assert _without_ids(Store(uri).snapshot()) == expected, f"request {position}"


def test_a_search_that_is_resumed(projection: Projection, journal: Journal, store: Store) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    start_trial(journal, 1)
    journal.append("fold_finished", trial=1, result=fold(1, 0.9))
    start_trial(journal, 2)
    journal.append("search_finished", why="interrupted", best_trial=0, val_top1=0.75, seconds=5.0)
    projection.advance()
    stopped = store.runs
    assert stopped["trial-0001"].info.status == stopped["trial-0002"].info.status == "KILLED"
    assert stopped["trial-0001"].data.tags["state"] == "failed"
    assert stopped[RUN].data.tags["why"] == "interrupted"

    start_search(journal)
    start_trial(journal, 1)
    projection.advance()
    resumed = store.runs
    assert resumed[RUN].info.status == resumed["trial-0001"].info.status == "RUNNING"
    assert resumed["trial-0001"].data.tags["state"] == "running"
    assert resumed["trial-0001"].data.tags["reason"] == ""
    assert {name: run.info.run_id for name, run in resumed.items()} == {
        name: run.info.run_id for name, run in stopped.items()
    }

    for k in (1, 2):
        journal.append("fold_finished", trial=1, result=fold(k, 0.9))
    journal.append("trial_finished", trial=1, state="complete", reason="")
    finish_search(journal)
    projection.advance()
    assert store.runs["trial-0001"].data.metrics["val_top1"] == 0.9
    assert store.runs["trial-0001"].info.status == store.runs[RUN].info.status == "FINISHED"


def test_the_file_that_is_written_later_still_goes_along(
    projection: Projection, journal: Journal, store: Store, directory: Path
) -> None:
    start_search(journal)
    projection.advance()
    (directory / "environment.json").write_text("{}")
    projection.advance()
    artifacts = store.client.list_artifacts(store.runs[RUN].info.run_id)
    assert [file.path for file in artifacts] == ["environment.json"]


def test_a_run_that_somebody_deleted_does_not_stop_the_rest(
    projection: Projection, journal: Journal, store: Store, uri: str, directory: Path
) -> None:
    start_search(journal)
    start_trial(journal, 0)
    projection.advance()
    store.client.delete_run(store.runs["trial-0000"].info.run_id)
    journal.append("fold_finished", trial=0, result=fold(1, 0.9))
    journal.append("trial_finished", trial=0, state="complete", reason="")
    Projection(uri, NAME, directory).advance()
    experiment = store.client.get_experiment_by_name(NAME)
    assert experiment is not None
    (run,) = store.client.search_runs([experiment.experiment_id], "tags.trial_id = 'trial-0000'")
    assert run.data.metrics["val_top1"] == 0.9


def test_another_store_gets_the_whole_journal(
    projection: Projection, journal: Journal, uri: str, directory: Path, tmp_path: Path, empty_database: Path
) -> None:
    whole_search(journal)
    projection.advance()
    shutil.copy(empty_database, tmp_path / "second.db")
    second = f"sqlite:///{tmp_path / 'second.db'}"
    Projection(second, NAME, directory).advance()
    assert len(Store(second).runs) == 7


def test_values_at_the_limits_of_mlflow(projection: Projection, journal: Journal, store: Store) -> None:
    start_search(journal)
    config = {f"method.x{i}": i for i in range(250)} | {"data.long": "x" * 9000, "data.list": [1, 2], "data.empty": ""}
    journal.append("trial_started", trial=0, params={"gamma_fe": 1e-3}, config=config, source="sampler", attrs={})
    steps = list(range(2500))
    terms = {"target_label": [float(step) for step in steps], "other": [float("inf")] * 2500}
    journal.append("fold_finished", trial=0, result=fold(1, float("nan"), loss_steps=steps, loss_terms=terms))
    journal.append("trial_finished", trial=0, state="failed", reason="y" * 9000)
    projection.advance()
    run = store.runs["trial-0000"]
    assert len(run.data.params) == 254
    assert run.data.params["data.list"] == "[1, 2]"
    assert len(run.data.params["data.long"]) == 6000
    assert len(store.series("trial-0000", "fold_1/loss/target_label")) == 2500
    assert np.isnan(run.data.metrics["fold_1/loss/other"])
    assert np.isnan(run.data.metrics["fold_1/val_top1"])


def test_no_search_is_nothing_to_do(projection: Projection, directory: Path) -> None:
    projection.advance()
    assert not (directory / "mlflow.json").exists()


def test_an_event_is_few_requests(projection: Projection, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    start_search(journal)
    projection.advance()
    counter = FailsAt(monkeypatch, 0, False)
    costs = []
    for step in (
        lambda: start_trial(journal, 0),
        lambda: journal.append("fold_finished", trial=0, result=fold(1, 0.9)),
        lambda: journal.append("trial_finished", trial=0, state="complete", reason=""),
    ):
        step()
        before = counter.calls
        projection.advance()
        costs.append(counter.calls - before)
    assert costs == [2, 1, 3]


# Tracker


@pytest.fixture
def trackers() -> Iterator[list[Tracker]]:
    made: list[Tracker] = []
    yield made
    for tracker in made:
        tracker.close(0)


def test_the_tracker_follows_in_the_background(
    projection: Projection, journal: Journal, store: Store, trackers: list[Tracker]
) -> None:
    trackers.append(tracker := Tracker(projection))
    start_search(journal)
    tracker.notify()
    assert tracker.flush(20)
    assert store.runs.keys() == {RUN}
    run_trial(journal, 0, [0.7])
    assert tracker.close(20)
    assert store.runs["trial-0000"].data.metrics["val_top1"] == 0.7
    assert tracker.close(20)


def test_a_server_that_is_away_stops_nothing(
    journal: Journal, directory: Path, uri: str, caplog: pytest.LogCaptureFixture, trackers: list[Tracker]
) -> None:
    whole_search(journal)
    with caplog.at_level(logging.DEBUG, "tuner.tracking"):
        trackers.append(tracker := Tracker(Projection(DEAD, NAME, directory)))
        for _ in range(20):
            tracker.notify()
        assert not tracker.flush(10)
        started = time.monotonic()
        assert not tracker.close(10)
        assert time.monotonic() - started < 5
    messages = [record.getMessage() for record in caplog.records if record.name == "tuner.tracking"]
    assert len(messages) == 1, "an outage is one message"
    assert "hunter2" not in caplog.text
    assert "robot" not in caplog.text
    Projection(uri, NAME, directory).advance()
    assert len(Store(uri).runs) == 7


def test_a_store_that_comes_back_gets_everything(
    projection: Projection,
    journal: Journal,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trackers: list[Tracker],
) -> None:
    monkeypatch.setattr(tracking, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(tracking, "LAST_RETRY_S", 0.02)
    away = threading.Event()
    away.set()
    log_batch = MlflowClient.log_batch

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if away.is_set():
            raise ConnectionError("away")
        return log_batch(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", flaky)
    trackers.append(tracker := Tracker(projection))
    whole_search(journal)
    assert not tracker.flush(10)
    away.clear()
    deadline = time.monotonic() + 20
    while "in line again" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tracker.close(10)
    assert len(store.runs) == 7
    assert store.runs["trial-0003"].data.metrics["val_top1"] == pytest.approx(0.65)


def test_closing_waits_no_longer_than_it_may(
    projection: Projection, monkeypatch: pytest.MonkeyPatch, trackers: list[Tracker]
) -> None:
    release = threading.Event()
    monkeypatch.setattr(projection, "advance", lambda: release.wait(20))
    trackers.append(tracker := Tracker(projection))
    tracker.notify()
    started = time.monotonic()
    assert not tracker.close(0.2)
    assert time.monotonic() - started < 2
    release.set()


# Where to record


def test_the_store_is_the_configured_one_or_the_environments_or_a_file_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri("sqlite:///deep/er.db") == f"sqlite:///{tmp_path}/deep/er.db"
    assert tracking_uri("sqlite:////abs/er.db") == "sqlite:////abs/er.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking_uri(None) == "http://server:5000"
    assert tracking_uri("https://other") == "https://other"


def test_preparing_makes_the_experiment_once(uri: str, tmp_path: Path) -> None:
    first = prepare_store(uri, NAME)
    assert prepare_store(uri, NAME) == first
    client = MlflowClient(uri)
    assert client.get_experiment(first).artifact_location == str(tmp_path / "mlartifacts")
    client.delete_experiment(first)
    assert prepare_store(uri, NAME) == first
    assert client.get_experiment(first).lifecycle_stage == "active"


@pytest.mark.parametrize(
    ("bad", "came"),
    [
        ("ftp://robot:hunter2@host/x", "'ftp://host/x'"),
        ("./mlruns", "'./mlruns'"),
        ("file:///tmp/mlruns", "'file:///tmp/mlruns'"),
        (DEAD, "'http://127.0.0.1:9': API request to http://127.0.0.1:9"),
        ("sqlite:////dev/null/mlflow.db", "'sqlite:////dev/null/mlflow.db': [Errno 17] File exists: '/dev/null'"),
        ("postgresql+nodriver://robot:hunter2@host/x", "'postgresql+nodriver://host/x': Can't load plugin"),
        ("sqlite:///no_database.db", "'sqlite:///no_database.db': (sqlite3.DatabaseError) file is not a database"),
    ],
)
def test_a_store_that_cannot_be_written_is_bad_input(
    bad: str, came: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no_database.db").write_text("no database, but long enough to look like a header of one" * 20)
    started = time.monotonic()
    with pytest.raises(BadInput) as raised:
        prepare_store(bad, NAME)
    (problem,) = raised.value.problems
    assert problem.where == "tracking.uri"
    assert problem.came.startswith(came)
    assert "\n" not in str(problem)
    assert "hunter2" not in str(problem)
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_in_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(BadInput, match=r"tracking\.uri"):
            prepare_store(f"http://127.0.0.1:{silent.getsockname()[1]}", NAME)
        assert time.monotonic() - started < 15
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pass@host:1/x failed", "http://host:1/x failed"),
        ("at 'postgresql+psycopg2://u:p@ss@host/db'", "at 'postgresql+psycopg2://host/db'"),
        ("https://token@host", "https://host"),
        ("http://host/?access_token=abc&x=1", "http://host/?access_token=…&x=1"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("models:/digits@champion", "models:/digits@champion"),
    ],
)
def test_credentials_are_taken_out(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_no_credentials_reach_the_store_or_the_disk(
    projection: Projection, journal: Journal, store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_search(journal)
    projection.advance()
    artifact = store.client.download_artifacts(store.runs[RUN].info.run_id, "space.yaml")
    assert "http://host/" in Path(artifact).read_text()
    monkeypatch.setattr(tracking, "_experiment_id", lambda *_: "1")
    monkeypatch.setattr(Projection, "_find_runs", lambda _: {})
    monkeypatch.setattr(Projection, "_project", lambda *_: None)
    Projection(DEAD, NAME, directory).advance()
    saved = (directory / "mlflow.json").read_text()
    assert json.loads(saved)["uri"] == "http://127.0.0.1:9"


# Models

CLASSES = ("cat", "dog")

IN_ANOTHER_PLACE = """
import io, json, sys
import mlflow, numpy as np, pandas as pd
from PIL import Image

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/smile-digits@champion")
paths = sys.argv[2:]
pixels = [np.asarray(Image.open(path)) for path in paths]
encoded = [open(path, "rb").read() for path in paths]
forms = {
    "paths": paths,
    "array of paths": np.array(paths),
    "series": pd.Series(paths),
    "column": pd.DataFrame({"image": paths}),
    "array": np.stack(pixels),
    "list of arrays": pixels,
    "bytes": encoded,
    "column of bytes": pd.DataFrame({"image": encoded}),
    "one path": paths[0],
}
frames = {form: model.predict(data) for form, data in forms.items()}
expected = frames["paths"]
for form, frame in frames.items():
    pd.testing.assert_frame_equal(frame, expected.head(len(frame)), obj=form)
example = model.input_example
assert len(model.predict(example)) == len(example)
print(expected.to_json(orient="split"))
"""


@pytest.fixture
def classifier_dir(tmp_path: Path) -> Path:
    config = TrialConfig.model_validate(
        {
            "data": {"dataset": "digits", "size_px": 32, "resize_px": 32},
            "backbone": {"name": "timm/test_resnet", "pretrained": False},
            "method": {"name": "l2"},
        }
    )
    network = build_network(config.backbone, len(CLASSES), 3, False)
    save_classifier(tmp_path / "model", network, config, CLASSES)
    return tmp_path / "model"


@pytest.mark.slow
def test_a_registered_model_predicts_elsewhere_from_every_form_of_image(
    projection: Projection, journal: Journal, store: Store, uri: str, classifier_dir: Path, tmp_path: Path
) -> None:
    whole_search(journal)
    projection.advance()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model_uri = register_model(uri, NAME, RUN, 0, classifier_dir, NAME, pixels[:1])
    assert model_uri == "models:/smile-digits@champion"

    version = store.client.get_model_version_by_alias(NAME, "champion")
    assert version.status == "READY"
    assert version.run_id == store.runs["retrain-seed-0"].info.run_id
    assert store.runs["retrain-seed-0"].info.status == "FINISHED"

    paths = []
    for i, image in enumerate(pixels):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image).save(paths[-1])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PLACE, uri, *paths], cwd=elsewhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["columns"] == ["label", "probability", "probability/cat", "probability/dog"]
    expected = Classifier.load(classifier_dir, torch.device("cpu")).predict_proba(paths)
    np.testing.assert_allclose([row[2:] for row in answer["data"]], expected, rtol=1e-4, atol=1e-5)


def test_what_is_logged_with_a_model(
    projection: Projection,
    journal: Journal,
    uri: str,
    classifier_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    whole_search(journal)
    projection.advance()
    register_model(uri, NAME, RUN, 0, classifier_dir, NAME, np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert not Path("mlruns").exists()
    (requirements,) = (tmp_path / "mlartifacts").rglob("requirements.txt")
    lines = requirements.read_text().splitlines()
    assert all("==" in line and "+" not in line for line in lines)
    assert {"torch", "timm", "mlflow"} <= {line.partition("==")[0] for line in lines}
    (logged,) = MlflowClient(uri).search_logged_models([prepare_store(uri, NAME)])
    assert logged.status == "READY"
    assert {metric.key: metric.value for metric in logged.metrics or ()}["test_top1"] == 0.9
    again = register_model(uri, NAME, RUN, 1, classifier_dir, NAME, np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert load_model(again, uri).metadata.run_id == Store(uri).runs["retrain-seed-1"].info.run_id


def test_a_model_without_a_run_is_said_so(
    projection: Projection, journal: Journal, uri: str, classifier_dir: Path
) -> None:
    start_search(journal)
    projection.advance()
    example = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(TrackingFailed, match=r"no run of search .* for retraining seed 0"):
        register_model(uri, NAME, RUN, 0, classifier_dir, NAME, example)
    with pytest.raises(TrackingFailed, match=r"http://127\.0\.0\.1:9") as raised:
        register_model(DEAD, NAME, RUN, 0, classifier_dir, NAME, example)
    assert "hunter2" not in str(raised.value)


def test_a_model_that_is_not_there_is_bad_input(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"models:/gone@champion: a model in the store sqlite:.*gone"):
        load_model("models:/gone@champion", uri)
    with pytest.raises(BadInput, match="no such file"):
        load_model("models:/gone@champion", f"sqlite:///{tmp_path / 'gone.db'}")
    assert not (tmp_path / "gone.db").exists()
