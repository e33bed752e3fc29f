"""Carrying over in the background: a store that is slow or away costs the search nothing."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from tuner.messages.redaction import reason

log = logging.getLogger("tuner.tracking")

BUSY = "database is locked"
"""What sqlite says after it has waited for other writers, 20 s with MLflow's setting."""
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0


class Syncable(Protocol):
    """What a tracker keeps up to date; a `Projection` is one."""

    def advance(self) -> object:
        """Takes in everything that is new. Raises where that fails, and can be called again."""
        ...


class BackgroundSync:
    """Keeps a projection up to date in the background, and keeps its troubles from the search.

    `notify` returns at once. While the store is away it is tried again after growing pauses, and reported once.
    """

    def __init__(self, projection: Syncable, name: str = "MLflow") -> None:
        self._projection = projection
        self._name = name
        self._changed = threading.Condition()
        self._asked = 0  # notifications
        self._tried = 0  # of those, answered by an attempt that began after them
        self._carried = 0  # of those, answered by an attempt that succeeded
        self._hurry = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Says that the journal has grown."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Waits for MLflow to be in line. False if it is not after `timeout_s`, or at once if the store is away."""
        with self._changed:
            self._asked += 1
            target = self._asked
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._tried >= target or self._closing, timeout_s)
            return self._carried >= target

    def close(self, timeout_s: float) -> bool:
        """Flushes and ends. True if MLflow is in line; if not, the next `Projection.advance` makes up for it."""
        with self._changed:
            if self._closing:
                return self._carried == self._asked
        in_line = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        return in_line

    def _work(self) -> None:
        pause_s = FIRST_RETRY_S
        while (seen := self._next_request(pause_s)) is not None:
            succeeded = self._advance(first_failure=self._carried == self._tried)
            pause_s = FIRST_RETRY_S if succeeded else min(2 * pause_s, LAST_RETRY_S)
            with self._changed:
                self._tried = seen
                self._carried = seen if succeeded else self._carried
                self._changed.notify_all()

    def _next_request(self, pause_s: float) -> int | None:
        """Blocks until there is something to do; None when there is nothing more to come."""
        with self._changed:
            if self._carried < self._tried:
                self._changed.wait_for(lambda: self._hurry or self._closing, pause_s)
            else:
                self._changed.wait_for(lambda: self._asked > self._tried or self._closing)
            self._hurry = False
            return None if self._closing else self._asked

    def _advance(self, first_failure: bool) -> bool:
        try:
            self._advance_in_turn()
        except Exception as error:  # a search outlives whatever its record keeper trips over
            if first_failure:
                log.warning(
                    "%s is behind (%s); the search goes on, and it will be brought into line", self._name, reason(error)
                )
            return False
        if not first_failure:
            log.warning("%s is in line again", self._name)
        return True

    def _advance_in_turn(self) -> None:
        """A file that others write to is not away: whoever waits for it gets his turn."""
        while True:
            try:
                self._projection.advance()
                return
            except Exception as error:
                if BUSY not in str(error) or self._closing:
                    raise
