from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.tuner.tiny import space_of
from trainables.data.loading import source_key
from tuner.cluster import time_probe
from tuner.cluster.time_probe import MAX_PROBES, probe_step_times
from tuner.experiment.timing import StepTimes
from tuner.resources.share import Share


@pytest.mark.parametrize(("concurrency", "count"), [(1, 1), (4, 4), (100, MAX_PROBES)])
def test_as_many_are_timed_at_once_as_will_run_at_once(
    monkeypatch: pytest.MonkeyPatch, concurrency: int, count: int
) -> None:
    asked: list[tuple[Any, ...]] = []

    def as_completed(task: Callable[..., StepTimes], jobs: list[tuple[Any, ...]], share: Share) -> Iterator[StepTimes]:
        asked.extend(jobs)
        yield from (StepTimes(1.0, float(number), 3.0) for number in range(len(jobs)))

    monkeypatch.setattr(time_probe, "as_completed", as_completed)
    monkeypatch.setattr(time_probe, "put_shared", lambda value: value)
    config = next(space_of().boundary_configs())
    share = Share(2, 0, concurrency)
    times = probe_step_times(config, {source_key(config.data): "images"}, 3, share)  # type: ignore[dict-item]
    assert asked == [(config, "images", 3, share)] * count
    assert times == StepTimes(1.0, (count - 1) / 2, 3.0)


def test_a_worker_times_with_the_threads_of_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Share] = []
    monkeypatch.setattr(time_probe, "prepare_process", prepared.append)
    monkeypatch.setattr(time_probe, "time_steps", lambda *arguments: arguments)
    assert time_probe._time_steps("config", "images", 3, Share(2, 0, 1)) == ("config", "images", 3)  # type: ignore[arg-type, comparison-overlap]
    assert prepared == [Share(2, 0, 1)]
