"""The bounded part of a search's trials that its sampler sees, so that a proposal costs as much after 10,000 trials as
after 1,000.

Samplers look at all trials for every proposal: TPE evaluates the density of each one's configuration, a Gaussian
process inverts a matrix of all pairs. Both gain nothing from most of them. TPE's good group are the 25 best of any
number of trials from 250 on, and in its other group older trials weigh less; a Gaussian process is determined by a few
hundred points as well as by thousands.
"""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple


class Limits(NamedTuple):
    """Number of trials that a sampler sees at most: the best complete ones, the latest that have ended, whatever their
    score, and the latest that are running."""

    best: int
    latest: int
    running: int


class SeenTrials:
    """Numbers of the trials that a sampler sees.

    They depend on the trials alone, not on the order in which these ended, so that a resumed search sees the same.

        seen = SeenTrials(Limits(best=1, latest=1, running=1))
        for number, score in enumerate([0.7, 0.9, 0.8, 0.5]):
            seen.end(number, score)
        seen.numbers  # [1, 3]
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._best: list[tuple[float, int]] = []
        self._latest: list[int] = []
        self._running: dict[int, None] = {}
        self._num_ended = 0

    @property
    def are_all(self) -> bool:
        """Whether they are all trials but the failed ones."""
        return self._num_ended <= self.limits.latest and len(self._running) <= self.limits.running

    @property
    def numbers(self) -> list[int]:
        """Numbers of the trials, in ascending order."""
        running = sorted(self._running)[-self.limits.running :]
        return sorted({*(number for _, number in self._best), *self._latest, *running})

    def start(self, number: int) -> None:
        """Adds a trial that is running."""
        self._running[number] = None

    def end(self, number: int, score: float | None) -> None:
        """Adds a trial that has ended, by its score; the larger, the better; None if it was stopped early."""
        self.leave_out(number)
        self._num_ended += 1
        insort(self._latest, number)
        del self._latest[: -self.limits.latest]
        if score is not None:
            insort(self._best, (-score, number))
            del self._best[self.limits.best :]

    def leave_out(self, number: int) -> None:
        """Removes a running trial, which failed."""
        self._running.pop(number, None)
