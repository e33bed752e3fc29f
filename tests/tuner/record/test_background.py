"""What is synced in the background holds up nobody; with MLflow see tests/tuner/tracking/test_background.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tuner.record.background import BackgroundSync


@pytest.fixture
def trackers() -> Iterator[list[BackgroundSync]]:
    made: list[BackgroundSync] = []
    yield made
    for tracker in made:
        tracker.close(0)


def test_closing_waits_no_longer_than_it_may(trackers: list[BackgroundSync]) -> None:
    release = threading.Event()

    class Slow:
        def advance(self) -> None:
            release.wait(20)

    trackers.append(tracker := BackgroundSync(Slow()))
    tracker.notify()
    assert not tracker.close(0.2), "it would be in sync after 20 s"
    release.set()


def test_a_file_that_others_write_to_is_waited_for(trackers: list[BackgroundSync]) -> None:
    class Busy:
        attempts = 0

        def advance(self) -> None:
            self.attempts += 1
            if self.attempts < 4:
                raise RuntimeError("(sqlite3.OperationalError) database is locked")

    trackers.append(tracker := BackgroundSync(busy := Busy()))
    tracker.notify()
    assert tracker.flush(10)
    assert busy.attempts >= 4
