from __future__ import annotations

import math

from deploy.workers import Wanted, parser, wait_for

WORKER = {"CPU": 8.0, "GPU": 1.0}
HEAD = {"CPU": 0.0}


class FakeCluster:
    """An autoscaler that adds a worker at each look, up to `most`, while room is asked for."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.there: list[dict[str, float]] = [HEAD]
        self.asked: list[list[dict[str, float]]] = []

    def nodes(self) -> list[dict[str, float]]:
        if self.asked[-1] and len(self.there) <= self.most:
            self.there.append(WORKER)
        return self.there

    def ask_for(self, bundles: list[dict[str, float]]) -> None:
        self.asked.append(bundles)


def no_pause(seconds: float) -> None: ...


def test_it_asks_for_all_workers_and_takes_that_back_once_they_are_there() -> None:
    cluster = FakeCluster(most=5)
    assert wait_for(cluster, Wanted(3, cpus=8, gpus=1), math.inf, no_pause) == 3
    assert cluster.asked == [[{"CPU": 8, "GPU": 1}] * 3, []]


def test_past_its_time_it_goes_on_with_those_that_are_there() -> None:
    cluster = FakeCluster(most=1)
    assert wait_for(cluster, Wanted(3, cpus=8, gpus=1), -math.inf, no_pause) == 1
    assert cluster.asked[-1] == []


def test_a_head_without_cpus_and_a_node_too_small_are_no_workers() -> None:
    wanted = Wanted(1, cpus=8, gpus=1)
    assert wanted.count([HEAD, {"CPU": 8.0}, {"CPU": 4.0, "GPU": 1.0}]) == 0
    assert wanted.count([HEAD, WORKER, {"CPU": 16.0, "GPU": 4.0}]) == 2


def test_what_is_waited_for_is_said() -> None:
    assert str(Wanted(1, cpus=2, gpus=0)) == "a worker with at least 2 CPUs and 0 GPUs"
    assert str(Wanted(3, cpus=8, gpus=1)) == "3 workers, each with at least 8 CPUs and 1 GPUs"


def test_a_worker_without_cards_is_asked_for_without() -> None:
    assert Wanted(1, cpus=2, gpus=0).bundle == {"CPU": 2}


def test_the_command_keeps_its_own_flags() -> None:
    arguments = parser().parse_args(["--workers", "2", "--", "python", "-m", "tuner.search", "--set", "a=b"])
    assert arguments.command == ["python", "-m", "tuner.search", "--set", "a=b"]
