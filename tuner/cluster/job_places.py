"""Where jobs run on Ray: in tasks, or on GPUs in a pool of actors, which take one job after the other."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Protocol

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tuner.resources.share import Share

MAX_RETRIES = 2
"""Number of times that a job whose process died is run again."""

Job = tuple[Any, ...]


class JobPlaces(Protocol):
    """Where the jobs of one function run; a reference of Ray's stands for a job that was started.

    `max_retries` is how often a job whose process died is to be started again, beyond what Ray does by itself.
    """

    max_retries: int

    def start(self, job: Job) -> Any:
        """Starts a job, with its arguments, and returns the reference of its result."""
        ...

    def end(self, reference: Any, is_reusable: bool) -> None:
        """Takes a job off its place, of which nothing is left to be waited for. One that failed makes its process not
        reusable."""
        ...

    def cancel(self, reference: Any) -> None:
        """Ends a job that still runs."""
        ...

    def release_idle(self) -> None:
        """Gives back what no job is using."""
        ...


def places_for(
    task: Callable[..., Any], share: Share, accelerator: str = "", room: PlacementGroup | None = None
) -> JobPlaces:
    """Makes places of `share` for jobs of `task`. `accelerator` is the type of GPU to use, "" for any; `room` is
    reserved for them, None where they take what is free."""
    options: dict[str, Any] = {"num_cpus": share.cpus}
    if share.gpus:
        options["num_gpus"] = share.gpus
    if accelerator:
        options["accelerator_type"] = accelerator
    if room is not None:
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(room)
    return ActorPlaces(task, options) if share.gpus else TaskPlaces(task, options)


class TaskPlaces:
    """Ray's tasks without a GPU. Ray reuses their processes, and repeats a task whose process died."""

    max_retries = 0

    def __init__(self, task: Callable[..., Any], options: dict[str, Any]) -> None:
        self._remote: Any = ray.remote(max_retries=MAX_RETRIES, **options)(task)

    def start(self, job: Job) -> Any:
        """Submits a task."""
        return self._remote.remote(*job)

    def end(self, reference: Any, is_reusable: bool) -> None:
        """Does nothing: the process is Ray's."""

    def cancel(self, reference: Any) -> None:
        """Cancels the task, and kills its process."""
        ray.cancel(reference, force=True)

    def release_idle(self) -> None:
        """Does nothing: an idle process is Ray's."""


class ActorPlaces:
    """Actors with a share of a GPU each. A process stays on the first GPU that it uses, so that Ray, which may give
    its next task another one, must not reuse it; an actor keeps its GPU.

    A job then starts without imports, a CUDA context and first kernels.
    """

    max_retries = MAX_RETRIES

    def __init__(self, task: Callable[..., Any], options: dict[str, Any]) -> None:
        self._task = task
        self._remote: Any = ray.remote(**options)(JobActor)
        self._idle: list[Any] = []
        self._busy: dict[Any, Any] = {}

    def start(self, job: Job) -> Any:
        """Gives the job to an idle actor, or to a new one."""
        actor = self._idle.pop() if self._idle else self._remote.remote(self._task)
        reference = actor.run.remote(*job)
        self._busy[reference] = actor
        return reference

    def end(self, reference: Any, is_reusable: bool) -> None:
        """Keeps the actor for the next job, or kills it."""
        actor = self._busy.pop(reference)
        if is_reusable:
            self._idle.append(actor)
        else:
            ray.kill(actor)

    def cancel(self, reference: Any) -> None:
        """Kills the job's actor."""
        self.end(reference, is_reusable=False)

    def release_idle(self) -> None:
        """Kills idle actors: actors that wait for a GPU may need theirs."""
        while self._idle:
            ray.kill(self._idle.pop())


class JobActor:
    """Process that runs a function for one job after the other."""

    def __init__(self, task: Callable[..., Any]) -> None:
        self._task = task

    def run(self, *job: Any) -> Any:
        """Runs the function. Returns what it returns, and raises what it raises."""
        try:
            return self._task(*job)
        finally:  # networks of torchvision are in reference cycles, and would stay on the GPU
            gc.collect()
