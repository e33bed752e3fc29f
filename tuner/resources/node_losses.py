"""Losses of nodes, as of spot instances that are preempted: they count by the hour, not as deaths of a worker."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable

MAX_LOSSES_PER_HOUR = 10
"""Number of times within an hour that the same training is restarted after its node was lost. More often, it is the
training that ends its nodes."""

HOUR_S = 3600.0


class NodeLosses:
    """Times at which nodes were lost, by the training that each interrupted. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lost_s: defaultdict[Hashable, deque[float]] = defaultdict(deque)

    def add(self, training: Hashable) -> bool:
        """Counts a loss. Returns whether the training may be restarted."""
        now_s, lost_s = self._clock(), self._lost_s[training]
        lost_s.append(now_s)
        while lost_s[0] <= now_s - HOUR_S:
            lost_s.popleft()
        return len(lost_s) <= MAX_LOSSES_PER_HOUR
