from __future__ import annotations

from tuner.resources.node_losses import HOUR_S, MAX_LOSSES_PER_HOUR, NodeLosses


def test_losses_count_by_the_hour_and_by_training() -> None:
    now_s = 0.0
    losses = NodeLosses(lambda: now_s)
    assert all(losses.add("fold 1") for _ in range(MAX_LOSSES_PER_HOUR))
    assert not losses.add("fold 1")
    assert losses.add("fold 2")
    now_s = HOUR_S - 1
    assert not losses.add("fold 1")
    now_s = HOUR_S
    assert losses.add("fold 1")  # those of the first second are forgotten
