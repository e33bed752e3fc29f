"""Jobs on Ray, which is replaced: how many at a time, and why one died."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from tuner.cluster import tasks
from tuner.cluster.tasks import (
    MAX_RETRIES,
    GpuOutOfMemory,
    WorkerFailed,
    as_completed,
    death_reason,
    is_node_loss,
    on_each_node,
    put_shared,
)
from tuner.resources.gpu_facts import NoGpu
from tuner.resources.node_losses import MAX_LOSSES_PER_HOUR
from tuner.resources.share import Share

PREEMPTED = RayActorError("0a", "The actor died.", preempted=True)
NODE_GONE = RayActorError("0a", "The actor died because its node has died. Node Id: 0b")


class FakeRay:
    """Tasks run when they are waited for, the latest first; counts how many are under way."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self.options: dict[str, Any] = {}
        self.cancelled: list[Any] = []

    def cancel(self, reference: Any, force: bool) -> None:
        assert force
        self.cancelled.append(reference)

    def remote(self, **given: Any) -> Any:
        self.options = given
        return lambda task: SimpleNamespace(remote=lambda *job: (task, job))

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        self.most_at_once = max(self.most_at_once, len(running))
        return [running[-1]], running[:-1]

    def get(self, reference: Any) -> Any:
        task, job = reference
        return task(*job)


@pytest.mark.parametrize("concurrency", [1, 2, 9])
def test_jobs_run_as_many_at_a_time_as_the_share_says(monkeypatch: pytest.MonkeyPatch, concurrency: int) -> None:
    fake = FakeRay()
    monkeypatch.setattr(tasks, "ray", fake)
    jobs = ((number, 10) for number in range(5))
    sums = list(as_completed(lambda a, b: a + b, jobs, Share(2, 0.5, concurrency)))
    assert sorted(sums) == [10, 11, 12, 13, 14]
    assert fake.most_at_once == min(concurrency, 5)
    on_gpus = {"num_gpus": 0.5, "max_calls": 1, "retry_exceptions": [NoGpu]}
    assert fake.options == {"num_cpus": 2, "max_retries": MAX_RETRIES} | on_gpus


def test_a_job_whose_process_died_too_often_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise WorkerCrashedError

    monkeypatch.setattr(tasks, "ray", FakeRay())
    with pytest.raises(WorkerFailed, match="its process crashed or was killed"):
        list(as_completed(die, [()], Share(1, 0, 1)))


def test_a_job_whose_node_was_lost_is_run_again_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = {1: 5, 2: 0}

    def run(number: int) -> int:
        if lost[number]:
            lost[number] -= 1
            raise NodeDiedError("gone")
        return number

    monkeypatch.setattr(tasks, "ray", FakeRay())
    assert sorted(as_completed(run, [(1,), (2,)], Share(1, 0, 2))) == [1, 2]


def test_a_job_that_loses_one_node_after_the_other_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def run() -> None:
        started.append(1)
        raise NodeDiedError("gone")

    monkeypatch.setattr(tasks, "ray", FakeRay())
    with pytest.raises(WorkerFailed, match="its node was lost"):
        list(as_completed(run, [()], Share(1, 0, 1)))
    assert len(started) == MAX_LOSSES_PER_HOUR + 1


def test_a_job_whose_gpu_is_full_ends_the_others_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(number: int) -> None:
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        raise RayTaskError("run", "Traceback", error)

    fake = FakeRay()
    monkeypatch.setattr(tasks, "ray", fake)
    with pytest.raises(GpuOutOfMemory, match="CUDA out of memory"):
        list(as_completed(run, [(0,), (1,)], Share(1, 0.5, 2), accelerator="T4"))
    assert [job for _, job in fake.cancelled] == [(0,)]
    assert fake.options["accelerator_type"] == "T4"


def test_jobs_that_nobody_waits_for_any_more_are_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay()
    monkeypatch.setattr(tasks, "ray", fake)
    results = as_completed(abs, [(-1,), (-2,), (-3,)], Share(1, 0, 3))
    with contextlib.closing(results):  # type: ignore[type-var]  # a generator
        assert next(results) == 3
    assert [job for _, job in fake.cancelled] == [(-1,), (-2,)]


@pytest.mark.parametrize("error", [ObjectStoreFullError("full"), OutOfDiskError("full")])
def test_a_full_object_store_is_said_with_remedies(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def put(value: Any) -> None:
        raise error

    monkeypatch.setattr("ray.put", put)
    with pytest.raises(MemoryError, match=r"Ray's object store is full, .*; take fewer"):
        put_shared([1])


class TestWhyAProcessDied:
    def test_says_what_its_code_raised(self) -> None:
        cause = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.\nMore.")
        raised = RayTaskError("train()", "Traceback", cause, "ray::train", 1, "127.0.0.1")
        message = "OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB."
        assert death_reason(raised) == death_reason(raised.as_instanceof_cause()) == message

    @pytest.mark.parametrize("error", [ActorDiedError(), WorkerCrashedError()])
    def test_says_that_it_may_have_been_for_memory(self, error: Exception) -> None:
        assert death_reason(error).startswith(
            "its process crashed or was killed, as by the kernel when memory runs out"
        )

    def test_says_that_it_was_for_memory(self) -> None:
        ended = OutOfMemoryError("Task was killed due to the node running low on memory.\nMemory on the node ...")
        assert death_reason(ended).startswith("the node ran out of memory, and Ray ended the process (fewer trials")

    @pytest.mark.parametrize(
        "error", [PREEMPTED, NODE_GONE, NodeDiedError("gone"), ActorUnavailableError("away", None)]
    )
    def test_says_that_its_node_was_lost(self, error: Exception) -> None:
        assert is_node_loss(error)
        assert death_reason(error) == "its node was lost"

    @pytest.mark.parametrize(
        "error", [ActorDiedError(), WorkerCrashedError(), RayTaskError("f", "its node has died", OSError("x")), None]
    )
    def test_no_other_death_is_taken_for_it(self, error: Exception | None) -> None:
        assert not is_node_loss(error)

    def test_says_what_else_there_was(self) -> None:
        assert death_reason(None) == "unknown reason"


class TestOnEachNode:
    def test_the_results_are_in_the_order_of_the_nodes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        class Remote:
            def options(self, scheduling_strategy: Any) -> Any:
                assert not scheduling_strategy.soft
                asked.append(scheduling_strategy.node_id)
                return SimpleNamespace(remote=lambda: scheduling_strategy.node_id)

        fake = SimpleNamespace(remote=lambda **given: lambda task: Remote(), get=lambda running, timeout: running)
        monkeypatch.setattr(tasks, "ray", fake)
        nodes = ["a" * 56, "b" * 56]
        assert on_each_node(str, nodes) == nodes == asked

    def test_one_that_does_not_answer_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cancelled: list[Any] = []

        def get(running: list[Any], timeout: float) -> Any:
            raise GetTimeoutError("Get timed out")

        remote = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: "task"))
        fake = SimpleNamespace(
            remote=lambda **_: lambda task: remote, get=get, cancel=lambda each, force: cancelled.append(each)
        )
        monkeypatch.setattr(tasks, "ray", fake)
        with pytest.raises(WorkerFailed, match="Get timed out"):
            on_each_node(str, ["a" * 56])
        assert cancelled == ["task"]


def test_what_an_actor_died_of_while_it_started_is_its_error() -> None:
    cause = RayTaskError("FoldTrainable.__init__", "Traceback\nNoGpu: CUDA does not start", RuntimeError())
    assert death_reason(ActorDiedError(cause)) == "NoGpu: CUDA does not start"
