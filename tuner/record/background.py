"""Background synchronisation: a store that is slow or unreachable does not delay the search."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from tuner.messages.redaction import reason

log = logging.getLogger("tuner.tracking")

BUSY = "database is locked"
"""SQLite's message after it has waited for other writers, 20 s with MLflow's setting."""
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0

OnProgress = Callable[[], object]
"""Function that is called after each part of a synchronisation."""


class Syncable(Protocol):
    """Interface of what `BackgroundSync` keeps up to date; a `Projection` and a `MirrorUploader` are such."""

    def advance(self, on_progress: OnProgress) -> object:
        """Synchronises everything that is new. May raise anything, and can be called again."""
        ...


class BackgroundSync:
    """Thread that keeps a projection up to date, and keeps the search from its errors.

    `notify` returns at once. While the store is unreachable, it is tried again after growing pauses (1 to 60 s) and
    logged once. `name` is that of the store in messages.

        sync = BackgroundSync(projection)
        journal.listeners.append(lambda event, history: sync.notify())
        ...
        is_synced = sync.flush(timeout_s=60)
        sync.close(timeout_s=10)
    """

    def __init__(self, projection: Syncable, name: str = "MLflow") -> None:
        self._projection = projection
        self._name = name
        self._changed = threading.Condition()
        self._num_requests = 0
        self._num_tried = 0  # requests before the start of the latest attempt
        self._num_synced = 0  # requests before the start of the latest attempt that succeeded
        self._progress_s = monotonic()  # of the latest attempt
        self._hurry = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Requests a synchronisation, as the journal has grown."""
        with self._changed:
            self._num_requests += 1
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Waits until the store is in sync, for as long as there is progress.

        Returns False if there is none for `timeout_s`, or at once if the store is unreachable.
        """
        return self._flush(timeout_s, extended=True)

    def close(self, timeout_s: float) -> bool:
        """Waits until the store is in sync, for at most `timeout_s`, and ends the thread.

        Returns whether the store is in sync; else the next `advance` makes up for it.
        """
        with self._changed:
            if self._closing:
                return self._num_synced == self._num_requests
        is_synced = self._flush(timeout_s, extended=False)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        return is_synced

    def _flush(self, timeout_s: float, extended: bool) -> bool:
        """Waits until the store is in sync; if `extended`, the time limit begins anew with each progress."""
        with self._changed:
            self._num_requests += 1
            target = self._num_requests
            self._hurry = True
            self._changed.notify_all()
            began_s = monotonic()
            while self._num_tried < target and not self._closing:
                since_s = max(began_s, self._progress_s) if extended else began_s
                left_s = since_s + timeout_s - monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            return self._num_synced >= target

    def _note_progress(self) -> None:
        with self._changed:
            self._progress_s = monotonic()
            self._changed.notify_all()

    def _work(self) -> None:
        pause_s = FIRST_RETRY_S
        while (num_requests := self._next_request(pause_s)) is not None:
            succeeded = self._advance(first_failure=self._num_synced == self._num_tried)
            pause_s = FIRST_RETRY_S if succeeded else min(2 * pause_s, LAST_RETRY_S)
            with self._changed:
                self._num_tried = num_requests
                self._num_synced = num_requests if succeeded else self._num_synced
                self._changed.notify_all()

    def _next_request(self, pause_s: float) -> int | None:
        """Blocks until there is a request, and returns how many there have been; None once the thread is to end."""
        with self._changed:
            if self._num_synced < self._num_tried:
                self._changed.wait_for(lambda: self._hurry or self._closing, pause_s)
            else:
                self._changed.wait_for(lambda: self._num_requests > self._num_tried or self._closing)
            self._hurry = False
            return None if self._closing else self._num_requests

    def _advance(self, first_failure: bool) -> bool:
        try:
            self._advance_when_free()
        except Exception as error:  # no error of a store may end the search
            if first_failure:
                log.warning(
                    "%s is behind (%s); the search goes on, and %s will be synced once it is reachable",
                    self._name,
                    reason(error),
                    self._name,
                )
            return False
        if not first_failure:
            log.warning("%s is in sync again", self._name)
        return True

    def _advance_when_free(self) -> None:
        """Repeats the attempt while other processes write to the SQLite file, which is not unreachable then."""
        while True:
            try:
                self._projection.advance(self._note_progress)
                return
            except Exception as error:
                if BUSY not in str(error) or self._closing:
                    raise
