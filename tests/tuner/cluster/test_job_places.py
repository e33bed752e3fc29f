"""Actors on GPUs: one process for one job after the other, and no GPU that is held for nothing."""

from __future__ import annotations

import contextlib

from tests.tuner.cluster.fake_ray import FakeRay
from tuner.cluster.tasks import as_completed
from tuner.resources.share import Share


def test_a_process_on_a_gpu_has_one_job_after_the_other(fake: FakeRay) -> None:
    assert sorted(as_completed(abs, ((number,) for number in range(7)), Share(1, 0.5, 2))) == list(range(7))
    assert (fake.num_actors, fake.living) == (2, set())


def test_a_gpu_that_no_job_waits_for_is_given_back(fake: FakeRay) -> None:
    """Else an actor that found no room would wait for ever."""
    results = as_completed(abs, [(-1,), (-2,), (-3,)], Share(1, 0.5, 2))
    assert next(results) == 2
    assert len(fake.living) == 2
    assert next(results) == 3
    assert len(fake.living) == 2  # its actor is idle until the next result is asked for
    assert next(results) == 1
    assert len(fake.living) == 1
    assert list(results) == []
    assert fake.living == set()


def test_actors_that_nobody_waits_for_any_more_are_killed(fake: FakeRay) -> None:
    results = as_completed(abs, [(-1,), (-2,), (-3,), (-4,)], Share(1, 0.5, 3))
    with contextlib.closing(results):  # type: ignore[type-var]  # a generator
        assert next(results) == 3
        assert len(fake.living) == 3
    assert fake.living == set()
