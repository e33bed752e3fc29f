"""Jobs on Ray, which is replaced: how many at a time, and why one died."""

from __future__ import annotations

import contextlib
import traceback
from types import SimpleNamespace
from typing import Any, cast

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

from tests.tuner.cluster.fake_ray import FakeRay
from tuner.cluster import tasks
from tuner.cluster.capacity import ClusterNodes, LiveCapacity
from tuner.cluster.job_places import MAX_RETRIES
from tuner.cluster.tasks import (
    GpuOutOfMemory,
    WorkerFailed,
    as_completed,
    death_reason,
    is_node_loss,
    on_each_node,
    put_shared,
)
from tuner.experiment.settings import ResourceSettings
from tuner.resources.gpu_facts import NoGpu
from tuner.resources.node_losses import MAX_LOSSES_PER_HOUR
from tuner.resources.share import Capacity, Share, share_of

AUTO = share_of([Capacity(8, 1)], ResourceSettings(gpus="auto"), "auto").sized_for(0.5)
PREEMPTED = RayActorError("0a", "The actor died.", preempted=True)
NODE_GONE = RayActorError("0a", "The actor died because its node has died. Node Id: 0b")


@pytest.mark.parametrize("gpus", [0, 0.5])
@pytest.mark.parametrize("concurrency", [1, 2, 9])
def test_jobs_run_as_many_at_a_time_as_the_share_says(fake: FakeRay, concurrency: int, gpus: float) -> None:
    jobs = ((number, 10) for number in range(5))
    sums = list(as_completed(lambda a, b: a + b, jobs, Share(2, gpus, concurrency)))
    assert sorted(sums) == [10, 11, 12, 13, 14]
    assert fake.most_at_once == min(concurrency, 5)
    more = {"num_gpus": 0.5} if gpus else {"max_retries": MAX_RETRIES}
    assert fake.options == {"num_cpus": 2} | more


def test_jobs_follow_a_cluster_that_grows_while_none_has_ended(fake: FakeRay) -> None:
    fake.num_timeouts, sizes = 1, iter([2, 3])
    cluster = SimpleNamespace(num_given_out=2)

    def wait(running: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        cluster.num_given_out = next(sizes, 1)
        return FakeRay.wait(fake, running, **options)

    fake.wait = wait  # type: ignore[method-assign]
    jobs = ((-number,) for number in range(6))
    results = as_completed(abs, jobs, Share(1, 0, 2), capacity=cast(LiveCapacity, cluster))
    assert sorted(results) == list(range(6))
    assert fake.most_at_once == 3


def test_a_gpu_that_is_free_is_given_back_while_a_restarted_job_waits_for_one(fake: FakeRay) -> None:
    """Actors of nodes that were lost are replaced at once, and wait in Ray: those that become idle, on a cluster on
    which no further job is started, must leave their GPUs to them."""
    cluster = SimpleNamespace(num_given_out=4)
    lost, kept = {0, 1}, list[int]()

    def run(number: int) -> int:
        cluster.num_given_out = 2
        if number in lost:
            lost.remove(number)
            raise NodeDiedError("gone")
        return number

    def wait(running: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        kept.append(len(fake.living) - len(running))
        return [running[0]], running[1:]  # the oldest first: those of the lost nodes

    fake.wait = wait  # type: ignore[method-assign]
    jobs = ((number,) for number in range(6))
    results = as_completed(run, jobs, Share(1, 0.5, 4), capacity=cast(LiveCapacity, cluster))
    assert sorted(results) == list(range(6))
    assert set(kept) == {0}, "actors without a job"


def test_where_all_nodes_are_lost_one_job_waits_for_the_next(fake: FakeRay) -> None:
    capacity = LiveCapacity(Share(1, 0, 2), list_nodes=lambda: ClusterNodes(()))
    assert list(as_completed(abs, [(-1,), (-2,)], Share(1, 0, 2), capacity=capacity)) == [1, 2]
    assert fake.most_at_once == 1


def test_a_job_whose_process_died_too_often_ends_them_all(fake: FakeRay) -> None:
    started = []

    def die() -> None:
        started.append(1)
        raise WorkerCrashedError

    with pytest.raises(WorkerFailed, match="its process crashed or was killed"):
        list(as_completed(die, [()], Share(1, 0, 1)))
    assert len(started) == 1  # Ray has repeated the task
    with pytest.raises(WorkerFailed, match="its process crashed or was killed"):
        list(as_completed(die, [()], Share(1, 0.5, 1)))
    assert len(started) == 1 + 1 + MAX_RETRIES
    assert (fake.num_actors, fake.living) == (1 + MAX_RETRIES, set())


def test_a_job_on_a_node_whose_gpu_does_not_start_is_tried_elsewhere(fake: FakeRay) -> None:
    bad = [1, 1]

    def run() -> str:
        if bad:
            bad.pop()
            raise RayTaskError("run", "Traceback", NoGpu("CUDA does not start"))
        return "trained"

    assert list(as_completed(run, [()], Share(1, 0.5, 1))) == ["trained"]
    assert fake.num_actors == 3


def test_a_job_whose_cuda_context_broke_is_run_in_another_process(fake: FakeRay) -> None:
    """Which all later ones of that process would find broken, too."""
    bad = [1]

    def run(number: int) -> int:
        if bad:
            bad.pop()
            raise RayTaskError("run", "Traceback", torch.AcceleratorError("CUDA error: an illegal memory access"))
        return number

    assert list(as_completed(run, [(0,), (1,), (2,)], Share(1, 0.5, 1))) == [0, 1, 2]
    assert fake.num_actors == 2


def test_a_job_that_fails_for_good_may_have_a_result(fake: FakeRay) -> None:
    def run(number: int) -> str:
        if number == 1:
            raise RayTaskError("run", "Traceback", torch.AcceleratorError("CUDA error: an illegal memory access"))
        return str(number)

    results = as_completed(run, [(0,), (1,), (2,)], Share(1, 0.5, 1), failed=lambda job, why: f"{job[0]} failed: {why}")
    assert list(results) == ["0", "1 failed: AcceleratorError: CUDA error: an illegal memory access", "2"]
    assert (fake.num_actors, fake.living) == (1 + MAX_RETRIES + 1, set())


@pytest.mark.parametrize(("share", "grows"), [(Share(1, 1, 1), False), (Share(1, 0.5, 1), False), (AUTO, True)])
def test_a_job_that_a_whole_gpu_is_too_small_for_has_a_result_too(fake: FakeRay, share: Share, grows: bool) -> None:
    """Where the share can be larger, it is tried first."""

    def run() -> str:
        raise RayTaskError("run", "Traceback", torch.OutOfMemoryError("CUDA out of memory"))

    results = as_completed(run, [()], share, failed=lambda job, why: why)
    if grows:
        with pytest.raises(GpuOutOfMemory):
            list(results)
    else:
        assert list(results) == ["OutOfMemoryError: CUDA out of memory"]


def test_an_error_of_the_jobs_own_is_not_tried_again(fake: FakeRay) -> None:
    def run() -> None:
        raise RayTaskError("run", "Traceback", ValueError("no such layer"))

    with pytest.raises(WorkerFailed, match="no such layer"):
        list(as_completed(run, [()], Share(1, 0.5, 1)))
    assert (fake.num_actors, fake.living) == (1, set())


@pytest.mark.parametrize("gpus", [0, 0.5])
def test_a_job_whose_node_was_lost_is_run_again_and_is_no_failure(fake: FakeRay, gpus: float) -> None:
    lost = {1: 5, 2: 0}

    def run(number: int) -> int:
        if lost[number]:
            lost[number] -= 1
            raise NodeDiedError("gone")
        return number

    assert sorted(as_completed(run, [(1,), (2,)], Share(1, gpus, 2))) == [1, 2]


@pytest.mark.parametrize("gpus", [0, 0.5])
def test_a_job_that_loses_one_node_after_the_other_fails(fake: FakeRay, gpus: float) -> None:
    started = []

    def run() -> None:
        started.append(1)
        raise NodeDiedError("gone")

    with pytest.raises(WorkerFailed, match="its node was lost"):
        list(as_completed(run, [()], Share(1, gpus, 1)))
    assert len(started) == MAX_LOSSES_PER_HOUR + 1


def test_a_job_whose_gpu_is_full_ends_the_others_too(fake: FakeRay) -> None:
    def run(number: int) -> None:
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        raise RayTaskError("run", "Traceback", error)

    with pytest.raises(GpuOutOfMemory, match="CUDA out of memory"):
        list(as_completed(run, [(0,), (1,)], Share(1, 0.5, 2), accelerator="T4"))
    assert (fake.num_actors, fake.living) == (2, set())
    assert fake.options["accelerator_type"] == "T4"


def test_jobs_that_nobody_waits_for_any_more_are_cancelled(fake: FakeRay) -> None:
    results = as_completed(abs, [(-1,), (-2,), (-3,)], Share(1, 0, 3))
    with contextlib.closing(results):  # type: ignore[type-var]  # a generator
        assert next(results) == 3
    assert [job for _, job, _ in fake.cancelled] == [(-1,), (-2,)]


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


CUDA_IS_FULL = """CUDA error: out of memory
Search for `cudaErrorMemoryAllocation' for more information.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (CUDA_IS_FULL, "RuntimeError: CUDA error: out of memory"),
        ("TUNER_CACHE is no folder\nthat all nodes share", "RuntimeError: TUNER_CACHE is no folder"),
    ],
)
def test_the_error_of_a_constructor_is_told_by_its_own_line(message: str, reason: str) -> None:
    """Not by the last one of its advice, in which no lack of memory is recognised."""
    try:
        raise RuntimeError(message)
    except RuntimeError as error:
        cause = RayTaskError("FoldTrainable.__init__", traceback.format_exc(), error, actor_repr="x", actor_id="0a")
    assert death_reason(ActorDiedError(cause)) == reason
