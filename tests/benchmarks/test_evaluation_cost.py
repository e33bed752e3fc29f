"""Costs are of as many times as a search computes a part, and shares are of the search."""

from __future__ import annotations

import numpy as np

from benchmarks.evaluation_cost import Cost, Part, cost_of, lines_of


def test_a_part_counts_as_often_as_it_is_computed() -> None:
    calls: list[int] = []
    cost = cost_of(Part("many", 1000, lambda: calls.append(np.ones(2**20).nbytes)))
    assert len(calls) == 3, "warm-up, time, memory"
    assert cost.duration_s > 0
    assert 7.9 < cost.peak_mib < 9


def test_a_total_above_the_limit_is_said() -> None:
    first, *_, last = lines_of([Cost("a", 1.0, 2.0), Cost("b", 1.5, 2.0)], duration_s=100)
    assert first.split() == ["a", "1.000", "s", "1.000%", "2.0", "MiB"]
    assert last.endswith("2.500%  of 100 s; limit 3%: ok")
    assert list(lines_of([Cost("a", 3.1, 2.0)], duration_s=100))[-1].endswith("limit 3%: over")
