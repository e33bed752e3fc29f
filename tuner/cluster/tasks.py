"""Ray tasks: runs a function over jobs as resources become free, and describes why one died."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray
import torch
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuner.cluster.capacity import PERIOD_S, LiveCapacity
from tuner.cluster.connection import OBJECT_STORE_ADVICE
from tuner.cluster.job_places import places_for
from tuner.messages.wording import one_line
from tuner.resources.gpu_facts import NoGpu
from tuner.resources.gpu_memory import is_gpu_out_of_memory, next_larger_share
from tuner.resources.node_losses import NodeLosses
from tuner.resources.share import Share

MEMORY_ADVICE = "fewer trials at once (search.concurrency) or a smaller batch need less"

NODE_DIED = "its node has died"
"""Part of Ray's message of an actor whose node was lost."""

LOW_ON_MEMORY = "running low on memory"
"""Part of the message of Ray's memory monitor."""

Result = TypeVar("Result")


def as_completed(
    task: Callable[..., Result],
    jobs: Iterable[tuple[Any, ...]],
    share: Share,
    accelerator: str = "",
    room: PlacementGroup | None = None,
    capacity: LiveCapacity | None = None,
    failed: Callable[[tuple[Any, ...], str], Result] | None = None,
) -> Iterator[Result]:
    """Runs `task(*job)` for every job on the cluster, as many at a time as the share says; yields results as they end.

    An argument from `put_shared` arrives as the value that was put. `accelerator` is the type of GPU to use, "" for
    any; `room` is reserved for the jobs, None where they take what is free. With `capacity`, as many run at a time as
    fit on the cluster at the moment, and those wait for which it may start a node. A job whose node was lost is run
    again. `failed` makes the result of a job that failed for good, and of the reason, in place of the error. Jobs that
    still run when the caller closes the iterator are cancelled.

        for score in as_completed(train, [(config, 0), (config, 1)], share):
            print(score)

    Raises:
        WorkerFailed: if a job raised an error, or its process died too often, and there is no `failed`; the other jobs
            are then cancelled.
        GpuOutOfMemory: if the reason was exhausted GPU memory, and there is a larger share, or no `failed`.
    """
    places = places_for(task, share, accelerator, room)
    waiting = deque(enumerate(jobs))
    running: dict[Any, tuple[int, tuple[Any, ...]]] = {}
    losses, deaths = NodeLosses(), Counter[int]()
    try:
        while waiting or running:
            num_at_once = share.concurrency if capacity is None else capacity.num_given_out
            while waiting and len(running) < num_at_once:
                number, job = waiting.popleft()
                running[places.start(job)] = number, job
            places.release_idle()  # what no job takes now: one that waits in Ray may need its GPU
            ended, _ = ray.wait(list(running), num_returns=1, timeout=None if capacity is None else PERIOD_S)
            if not ended:
                continue
            (ready,) = ended
            number, job = running.pop(ready)
            try:
                result = ray.get(ready)
            except RayError as error:
                places.end(ready, is_reusable=False)
                if is_node_loss(error):
                    is_repeated = losses.add(number)
                else:
                    deaths[number] += 1
                    is_repeated = may_succeed_elsewhere(error) and deaths[number] <= places.max_retries
                if is_repeated:
                    waiting.appendleft((number, job))
                    continue
                reason = death_reason(error)
                may_grow = share.is_auto and next_larger_share(share.gpus) is not None
                if is_gpu_out_of_memory(reason) and (may_grow or failed is None):
                    raise GpuOutOfMemory(reason, share.gpus) from error
                if failed is None:
                    raise WorkerFailed(reason) from error
                yield failed(job, reason)
                continue
            places.end(ready, is_reusable=True)
            yield result
    finally:
        for other in running:
            places.cancel(other)
        places.release_idle()


def on_each_node(task: Callable[[], Result], nodes: Iterable[str], timeout_s: float = 60.0) -> list[Result]:
    """Runs a short task, which takes no CPU of the trials, on the nodes with these ids; returns the results in order.

    Raises:
        WorkerFailed: if one raised an error, or did not end in time.
    """
    remote: Any = ray.remote(num_cpus=0)(task)
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    running = [remote.options(scheduling_strategy=place).remote() for place in places]
    try:
        results: list[Result] = ray.get(running, timeout=timeout_s)
    except RayError as error:  # its timeout is one, too
        for each in running:
            ray.cancel(each, force=True)
        raise WorkerFailed(death_reason(error)) from error
    return results


class WorkerFailed(Exception):
    """Error for a job that raised one, or whose process died each time."""


class GpuOutOfMemory(WorkerFailed):
    """Error for a job whose share of a GPU's memory, the fraction `gpus`, was too small."""

    def __init__(self, reason: str, gpus: float) -> None:
        super().__init__(reason)
        self.gpus = gpus


def put_shared(value: Any) -> Any:
    """Puts `value` into the object store, once for all jobs, and returns its reference.

    Raises MemoryError, with remedies, if it does not fit.
    """
    with object_store_errors():
        return ray.put(value)


@contextlib.contextmanager
def object_store_errors() -> Iterator[None]:
    """Raises MemoryError, with remedies, if Ray's object store has no room for what the block puts into it."""
    try:
        yield
    except (ObjectStoreFullError, OutOfDiskError) as error:
        raise MemoryError(
            f"Ray's object store is full, and so is the disk that it spills to; {OBJECT_STORE_ADVICE}"
        ) from error


def is_node_loss(error: Exception | None) -> bool:
    """Whether a task or an actor failed as its node was lost, as a spot instance is that is preempted.

    An actor that is unavailable counts, too: Ray learns of a process's death within a second from its node, but of a
    node's death only after some missed signs of life.
    """
    if isinstance(error, NodeDiedError | ActorUnavailableError):
        return True
    if isinstance(error, RayActorError) and error.preempted:
        return True
    return isinstance(error, RayError) and not isinstance(error, RayTaskError) and NODE_DIED in str(error)


def may_succeed_elsewhere(error: RayError) -> bool:
    """Whether a job may succeed in another process: its own died, was on a node whose GPU no training can use, or its
    CUDA context is broken, with which no further job could compute."""
    if not isinstance(error, RayTaskError):
        return True
    return isinstance(error.cause, NoGpu | torch.AcceleratorError) and not is_gpu_out_of_memory(error.cause)


def death_reason(error: Exception | None) -> str:
    """Describes in one line why a task or an actor failed: its code's error, or the probable cause of its death."""
    if error is None:
        return "unknown reason"
    if isinstance(error, RayTaskError):  # of its code: Ray's message begins with the place, not the error
        return one_line(error.cause) if isinstance(error.cause, Exception) else str(error).strip().rpartition("\n")[2]
    if LOW_ON_MEMORY in str(error):
        return f"the node ran out of memory, and Ray ended the process ({MEMORY_ADVICE})"
    if is_node_loss(error):
        return "its node was lost"
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return _constructor_error(str(error))
    if isinstance(error, RayActorError | WorkerCrashedError):
        return f"its process crashed or was killed, as by the kernel when memory runs out ({MEMORY_ADVICE})"
    return one_line(error)


def _constructor_error(message: str) -> str:
    """Finds the error's own line in Ray's text of an actor whose constructor raised it: the one about a GPU's memory,
    else the first after the traceback, as CUDA's errors end in advice of several lines."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    if (about_memory := next(filter(is_gpu_out_of_memory, lines), None)) is not None:
        return about_memory.strip()
    in_traceback = [number for number, line in enumerate(lines) if line.startswith((" ", "\t"))]
    after = lines[in_traceback[-1] + 1 :] if in_traceback else []
    return (after or lines[-1:])[0].strip()
