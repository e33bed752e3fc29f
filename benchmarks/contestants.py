"""Processes that take turns: what is read when a process starts (allocator, threads) can only be compared in two."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

Build = Callable[..., Callable[[int], float]]
"""Prepares in the process; what it returns does so much work, and says in what time (s)."""


class Contestant:
    """A process of its own that works when it is told to, and waits otherwise."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, amount: int) -> None:
        """Tells it to do so much. For two at once; see `ended`."""
        self._connection.send(amount)

    def ended(self) -> float:
        """Waits for the end of what was begun: seconds. Raises EOFError where the process broke off."""
        return float(self._connection.recv())

    def seconds(self, amount: int) -> float:
        """Of so much work."""
        self.begin(amount)
        return self.ended()


@contextmanager
def contestant(
    build: Build, *given: Any, environment: Mapping[str, str] | None = None, without: tuple[str, ...] = ()
) -> Iterator[Contestant]:
    """Starts `build(*given)` in a fresh process: with `environment` on top of this one's, which loses `without`.

    It is ready when this returns.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    kept = {name: value for name, value in os.environ.items() if name not in without}
    process = context.Process(target=_work, args=(theirs, build, given))
    with patch.dict(os.environ, kept | dict(environment or {}), clear=True):
        process.start()
    theirs.close()
    try:
        ours.recv()
        yield Contestant(ours)
    finally:
        ours.close()  # which ends it
        process.join(10)
        process.kill()


def _work(orders: Connection, build: Build, given: tuple[Any, ...]) -> None:
    work = build(*given)
    orders.send(None)
    while True:
        try:
            amount = orders.recv()
        except EOFError:
            return
        orders.send(work(amount))
