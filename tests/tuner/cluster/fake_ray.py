"""A Ray that runs jobs in this process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tuner.cluster.job_places import JobActor


class FakeRay:
    """Jobs run when they are waited for, the latest first; counts how many are under way. A job's reference is its
    function, its arguments, and the actor that runs it (None: a task)."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self.options: dict[str, Any] = {}
        self.cancelled: list[Any] = []
        self.num_actors = 0
        self.living: set[int] = set()
        self.num_timeouts = 0

    def cancel(self, reference: Any, force: bool) -> None:
        assert force
        self.cancelled.append(reference)

    def remote(self, **given: Any) -> Any:
        self.options = given

        def made(what: Any) -> Any:
            if what is JobActor:
                return SimpleNamespace(remote=self.new_actor)
            return SimpleNamespace(remote=lambda *job: (what, job, None))

        return made

    def new_actor(self, task: Any) -> Any:
        number = self.num_actors
        self.num_actors += 1
        self.living.add(number)
        run = SimpleNamespace(remote=lambda *job: (JobActor(task).run, job, number))
        return SimpleNamespace(run=run, number=number)

    def kill(self, actor: Any) -> None:
        self.living.remove(actor.number)

    def wait(self, running: list[Any], num_returns: int, timeout: float | None) -> tuple[list[Any], list[Any]]:
        self.most_at_once = max(self.most_at_once, len(running))
        if timeout is not None and self.num_timeouts:
            self.num_timeouts -= 1
            return [], running
        return [running[-1]], running[:-1]

    def get(self, reference: Any) -> Any:
        task, job, actor = reference
        assert actor is None or actor in self.living
        return task(*job)
