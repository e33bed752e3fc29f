from __future__ import annotations

import math

from deploy.worker_request import WorkerRequest
from deploy.workers import bundles_of, count_workers, parser, wait_for
from tuner.resources.share import Capacity

WORKER = Capacity(8, 1)
HEAD = Capacity(0, 0)


class FakeCluster:
    """An autoscaler that adds a worker at each look, up to `most`, while workers are asked for."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.there: list[Capacity] = [HEAD]
        self.requests: list[WorkerRequest | None] = []

    def nodes(self) -> list[Capacity]:
        if self.requests[-1] and len(self.there) <= self.most:
            self.there.append(WORKER)
        return self.there

    def request(self, workers: WorkerRequest | None) -> None:
        self.requests.append(workers)


def no_pause(seconds: float) -> None: ...


def test_it_asks_for_all_workers_and_takes_that_back_once_they_are_there() -> None:
    cluster, wanted = FakeCluster(most=5), WorkerRequest(3, cpus=8, gpus=1)
    assert wait_for(cluster, wanted, math.inf, no_pause) == 3
    assert cluster.requests == [wanted, None]


def test_after_its_time_it_goes_on_with_those_that_are_there() -> None:
    cluster = FakeCluster(most=1)
    assert wait_for(cluster, WorkerRequest(3, cpus=8, gpus=1), -math.inf, no_pause) == 1
    assert cluster.requests[-1] is None


def test_a_head_without_cpus_and_a_node_too_small_are_no_workers() -> None:
    wanted = WorkerRequest(1, cpus=8, gpus=1)
    assert count_workers([HEAD, Capacity(8, 0), Capacity(4, 1)], wanted) == 0
    assert count_workers([HEAD, WORKER, Capacity(16, 4)], wanted) == 2


def test_ray_is_asked_for_a_bundle_each() -> None:
    assert bundles_of(WorkerRequest(3, cpus=8, gpus=1)) == [{"CPU": 8, "GPU": 1}] * 3
    assert bundles_of(WorkerRequest(1, cpus=2, gpus=0)) == [{"CPU": 2}]


def test_the_command_keeps_its_own_flags() -> None:
    arguments = parser().parse_args(["--workers", "2", "--", "python", "-m", "tuner.search", "--set", "a=b"])
    assert arguments.command == ["python", "-m", "tuner.search", "--set", "a=b"]
