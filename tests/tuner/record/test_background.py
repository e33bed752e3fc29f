"""What is synced in the background holds up nobody; with MLflow see tests/tuner/tracking/test_background.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tuner.record.background import BackgroundSync, OnProgress


@pytest.fixture
def trackers() -> Iterator[list[BackgroundSync]]:
    made: list[BackgroundSync] = []
    yield made
    for tracker in made:
        tracker.close(0)


def test_closing_waits_no_longer_than_it_may(trackers: list[BackgroundSync]) -> None:
    release = threading.Event()

    class Slow:
        def advance(self, on_progress: OnProgress) -> None:
            release.wait(20)

    trackers.append(tracker := BackgroundSync(Slow()))
    tracker.notify()
    assert not tracker.close(0.2), "it would be in sync after 20 s"
    release.set()


def test_a_file_that_others_write_to_is_waited_for(trackers: list[BackgroundSync]) -> None:
    class Busy:
        attempts = 0

        def advance(self, on_progress: OnProgress) -> None:
            self.attempts += 1
            if self.attempts < 4:
                raise RuntimeError("(sqlite3.OperationalError) database is locked")

    trackers.append(tracker := BackgroundSync(busy := Busy()))
    tracker.notify()
    assert tracker.flush(10)
    assert busy.attempts >= 4


class Clock:
    """A clock that stands still but for `now_s`; `was_read` is set whenever the main thread reads it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.was_read = threading.Event()

    def __call__(self) -> float:
        if threading.current_thread() is threading.main_thread():
            self.was_read.set()
        return self.now_s


class InParts:
    """What takes three times 50 s, and calls `on_progress` after each; whoever waits has then looked at the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def advance(self, on_progress: OnProgress) -> None:
        for _ in range(3):
            self._clock.now_s += 50
            self._clock.was_read.clear()
            on_progress()
            self._clock.was_read.wait(20)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tuner.record.background.monotonic", clock)
    return clock


def test_a_flush_waits_for_what_makes_progress(clock: Clock, trackers: list[BackgroundSync]) -> None:
    trackers.append(tracker := BackgroundSync(InParts(clock)))
    assert tracker.flush(60)
    assert clock.now_s == 150


def test_closing_does_not(clock: Clock, trackers: list[BackgroundSync]) -> None:
    trackers.append(tracker := BackgroundSync(InParts(clock)))
    assert not tracker.close(60)
