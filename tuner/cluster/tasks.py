"""Ray tasks: run a function over jobs as places become free, and say why one died."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    ActorUnavailableError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from tuner.messages.wording import one_line
from tuner.resources.gpu_memory import is_gpu_out_of_memory
from tuner.resources.share import Share

MORE_ROOM = (
    "take fewer images or smaller ones (data.train_images, data.size_px), or more memory: for a cluster, "
    "`ray start --object-store-memory`; for this machine's own, RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION"
)


LESS_MEMORY = "fewer trials at once (search.concurrency) or a smaller batch need less"


LOW_ON_MEMORY = "running low on memory"  # as Ray's memory monitor says it


MAX_RETRIES = 2
"""How often a task whose worker died is started again."""


Result = TypeVar("Result")


def as_completed(
    task: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], share: Share, accelerator: str = ""
) -> Iterator[Result]:
    """Runs `task(*job)` for every job on the cluster, as many at a time as the share says; yields what each returns as
    it ends. Arguments from `shared` arrive as what was shared. `accelerator` is the kind of card that is to be used.

    Raises:
        WorkerFailed: where a job raised, or its process died too often; the others are then ended, too.
        CardFull: where that was for want of memory on a card.
    """
    # A process that has used one card stays on it, so that with GPUs each job gets a process of its own.
    once: dict[str, Any] = {"num_gpus": share.gpus, "max_calls": 1} if share.gpus else {}
    if accelerator:
        once["accelerator_type"] = accelerator
    remote: Any = ray.remote(num_cpus=share.cpus, max_retries=MAX_RETRIES, **once)(task)
    waiting = deque(jobs)
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < share.concurrency:
            running.append(remote.remote(*waiting.popleft()))
        (ready,), running = ray.wait(running, num_returns=1)
        try:
            result = ray.get(ready)
        except RayError as error:
            for other in running:
                ray.cancel(other, force=True)
            why = death_reason(error)
            raise (GpuOutOfMemory if is_gpu_out_of_memory(why) else WorkerFailed)(why) from error
        yield result


class WorkerFailed(Exception):
    """A job raised, or its process died each time that it was tried."""


class GpuOutOfMemory(WorkerFailed):
    """A job's part of a card was too little."""


def put_shared(value: Any) -> Any:
    """`value` in the object store, once for all jobs that it is handed to. Raises MemoryError where it does not fit."""
    with object_store_errors():
        return ray.put(value)


@contextlib.contextmanager
def object_store_errors() -> Iterator[None]:
    """Says what to do where Ray's object store has no room for what the block puts into it, by a MemoryError."""
    try:
        yield
    except (ObjectStoreFullError, OutOfDiskError) as error:
        raise MemoryError(f"Ray's object store is full, and so is the disk behind it; {MORE_ROOM}") from error


def death_reason(error: Exception | None) -> str:
    """What Ray raised for a task or an actor, in one line: what its code raised, or what is known of its end."""
    if error is None:
        return "no reason known"
    if isinstance(error, RayTaskError):  # raised by its code: Ray's text begins with where, not with what
        return one_line(error.cause) if isinstance(error.cause, Exception) else str(error).strip().splitlines()[-1]
    if LOW_ON_MEMORY in str(error):
        return f"the node ran out of memory, and Ray ended the process ({LESS_MEMORY})"
    if isinstance(error, RayActorError | WorkerCrashedError) and not isinstance(error, ActorUnavailableError):
        return f"its process crashed or was killed, as the kernel does where memory runs out ({LESS_MEMORY})"
    return one_line(error)
