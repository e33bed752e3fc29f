from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.tuner.tiny import space_of
from trainables.data.loading import source_key
from tuner.cluster import time_probe
from tuner.cluster.free_gpu import NoGpuFree
from tuner.cluster.gpu_probe import PART_IF_BUSY
from tuner.cluster.tasks import GpuOutOfMemory
from tuner.cluster.time_probe import MAX_PROBES, probe_step_times
from tuner.experiment.settings import ResourceSettings
from tuner.experiment.timing import StepTimes
from tuner.resources.share import Capacity, Share, share_of


@pytest.mark.parametrize(("concurrency", "count"), [(1, 1), (4, 4), (100, MAX_PROBES)])
def test_as_many_are_timed_at_once_as_will_run_at_once(
    monkeypatch: pytest.MonkeyPatch, concurrency: int, count: int
) -> None:
    asked: list[tuple[Any, ...]] = []

    def as_completed(
        task: Callable[..., StepTimes], jobs: list[tuple[Any, ...]], share: Share, room: Any
    ) -> Iterator[StepTimes]:
        assert room is None
        asked.extend(jobs)
        yield from (StepTimes(1.0, float(number), 3.0) for number in range(len(jobs)))

    monkeypatch.setattr(time_probe, "as_completed", as_completed)
    monkeypatch.setattr(time_probe, "put_shared", lambda value: value)
    config = next(space_of().boundary_configs())
    share = Share(2, 0, concurrency)
    times, waited_s = probe_step_times(config, {source_key(config.data): "images"}, 3, share)  # type: ignore[dict-item]
    assert waited_s == 0
    assert asked == [(config, "images", 3, share)] * count
    assert times == StepTimes(1.0, (count - 1) / 2, 3.0)


def test_a_worker_times_with_the_threads_of_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Share] = []
    monkeypatch.setattr(time_probe, "prepare_process", prepared.append)
    monkeypatch.setattr(time_probe, "time_steps", lambda *arguments: arguments)
    assert time_probe._time_steps("config", "images", 3, Share(2, 0, 1)) == ("config", "images", 3)  # type: ignore[arg-type, comparison-overlap]
    assert prepared == [Share(2, 0, 1)]


@pytest.fixture
def timed_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[StepTimes, float, list[str]]]:
    """Times a training whose share is yet to be measured, on GPUs of which a part is free, by a stand-in of Ray's."""

    def timed(free: float, as_completed: Callable[..., Iterator[StepTimes]]) -> tuple[StepTimes, float, list[str]]:
        lines: list[str] = []

        @contextlib.contextmanager
        def free_part(*_: Any) -> Iterator[tuple[float, str]]:
            if not free:
                raise NoGpuFree("no GPU became free")
            yield free, "room"

        @contextlib.contextmanager
        def reserved(share: Share, accelerator: str, say: Callable[[str], object]) -> Iterator[str]:
            say(f"waiting for {share.gpus:g} GPUs")
            yield "room"

        stand_ins = {"free_part": free_part, "reserved": reserved, "as_completed": as_completed}
        for name, stand_in in ({"put_shared": lambda value: value} | stand_ins).items():
            monkeypatch.setattr(time_probe, name, stand_in)
        config = next(space_of().boundary_configs())
        share = share_of([Capacity(8, 4)], ResourceSettings(gpus="auto"), "auto")
        images: Any = {source_key(config.data): "images"}
        return *probe_step_times(config, images, 3, share, False, lines.append), lines

    return timed


@pytest.mark.parametrize(("free", "part", "said"), [(0.5, 0.5, []), (0, PART_IF_BUSY, ["waiting for 0.25 GPUs"])])
def test_where_the_share_is_not_measured_one_is_timed_in_what_is_free(
    timed_in: Callable[..., tuple[StepTimes, float, list[str]]], free: float, part: float, said: list[str]
) -> None:
    """All GPUs may be others', for ever: a whole one is not waited for."""
    jobs_of: list[tuple[Any, ...]] = []

    def as_completed(task: Any, jobs: list[tuple[Any, ...]], share: Share, room: Any) -> Iterator[StepTimes]:
        assert (room, share.concurrency, share.gpus) == ("room", 1, part)
        jobs_of.extend(jobs)
        yield StepTimes(1.0, 2.0, 3.0)

    times, waited_s, lines = timed_in(free, as_completed)
    assert times == StepTimes(1.0, 2.0, 3.0)
    assert waited_s >= 0
    assert len(jobs_of) == 1
    assert lines == said


@pytest.mark.parametrize("enough", [1.0, 2.0])
def test_a_part_of_a_gpu_that_is_too_small_grows(
    timed_in: Callable[..., tuple[StepTimes, float, list[str]]], enough: float
) -> None:
    given: list[float] = []

    def as_completed(task: Any, jobs: Any, share: Share, room: Any) -> Iterator[StepTimes]:
        given.append(share.gpus)
        if share.gpus < enough:
            raise GpuOutOfMemory("CUDA out of memory", share.gpus)
        yield StepTimes(1.0, 2.0, 3.0)

    with pytest.raises(GpuOutOfMemory) if enough > 1 else contextlib.nullcontext():
        timed_in(0.25, as_completed)
    assert given == [0.25, 0.5, 1]
