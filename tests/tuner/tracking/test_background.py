"""A projection in the background: MLflow's outages do not reach the search, and MLflow gets every event."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import DEAD, NAME, RUN, Store, run_trial, start_search, whole_search
from tuner.record.background import BackgroundSync
from tuner.record.directory import RunDirectory
from tuner.record.journal import SearchJournal
from tuner.tracking.projection import Projection

pytestmark = MLFLOW_LEAKS


@pytest.fixture
def trackers() -> Iterator[list[BackgroundSync]]:
    made: list[BackgroundSync] = []
    yield made
    for tracker in made:
        tracker.close(0)


def test_the_tracker_follows_in_the_background(
    projection: Projection, journal: SearchJournal, store: Store, trackers: list[BackgroundSync]
) -> None:
    trackers.append(tracker := BackgroundSync(projection))
    start_search(journal)
    tracker.notify()
    assert tracker.flush(20)
    assert store.runs.keys() == {RUN}
    run_trial(journal, 0, [0.7])
    assert tracker.close(20)
    assert store.runs["trial-0000"].data.metrics["val_top1"] == 0.7
    assert tracker.close(20)


def test_a_server_that_is_away_stops_nothing(
    journal: SearchJournal,
    directory: RunDirectory,
    uri: str,
    caplog: pytest.LogCaptureFixture,
    trackers: list[BackgroundSync],
) -> None:
    whole_search(journal)
    with caplog.at_level(logging.DEBUG, "tuner.tracking"):
        trackers.append(tracker := BackgroundSync(Projection(DEAD, NAME, directory)))
        for _ in range(20):
            tracker.notify()
        assert not tracker.flush(10)
        assert not tracker.close(10)
    messages = [record.getMessage() for record in caplog.records if record.name == "tuner.tracking"]
    assert len(messages) == 1, "an outage is one message"
    assert "hunter2" not in caplog.text
    assert "robot" not in caplog.text
    Projection(uri, NAME, directory).advance()
    assert len(Store(uri).runs) == 7


def test_a_store_that_comes_back_gets_everything(
    projection: Projection,
    journal: SearchJournal,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trackers: list[BackgroundSync],
) -> None:
    monkeypatch.setattr("tuner.record.background.FIRST_RETRY_S", 0.01)
    monkeypatch.setattr("tuner.record.background.LAST_RETRY_S", 0.02)
    away = threading.Event()
    away.set()
    log_batch = MlflowClient.log_batch

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if away.is_set():
            raise ConnectionError("away")
        return log_batch(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", flaky)
    trackers.append(tracker := BackgroundSync(projection))
    whole_search(journal)
    assert not tracker.flush(10)
    away.clear()
    deadline = time.monotonic() + 20
    while "in sync again" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tracker.close(10)
    assert len(store.runs) == 7
    assert store.runs["trial-0003"].data.metrics["val_top1"] == pytest.approx(0.65)
