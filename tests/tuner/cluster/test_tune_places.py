"""Which trials Ray Tune's searcher gives out on a cluster whose nodes come and go, and are of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import search_journal, space_of
from tuner.cluster import tune
from tuner.cluster.capacity import PERIOD_S, ClusterNodes, LiveCapacity
from tuner.cluster.trainable import WorkerSettings
from tuner.cluster.tune import SchedulerSearcher
from tuner.experiment.settings import ResourceSettings
from tuner.resources.share import Capacity, KindNeed, Share, share_of
from tuner.scheduling.scheduler import TrialScheduler


class Cluster:
    """Nodes that come and go, and a clock that stands still between."""

    def __init__(self, *nodes: Capacity, may_grow: bool = False) -> None:
        self.nodes, self.may_grow, self.now_s = nodes, may_grow, 0.0

    def has(self, *nodes: Capacity) -> None:
        self.nodes = nodes
        self.now_s += PERIOD_S

    def capacity(self, share: Share) -> LiveCapacity:
        return LiveCapacity(share, list_nodes=lambda: ClusterNodes(self.nodes, self.may_grow), clock=lambda: self.now_s)


class TestPlaces:
    @pytest.fixture
    def scheduler(self, tmp_path: Path) -> TrialScheduler:
        changes = {"search__trials": 40, "search__sampler": "random", "search__racing": {"rule": "none"}}
        return TrialScheduler(space_of(**changes), search_journal(tmp_path))

    def given(self, scheduler: TrialScheduler, capacity: LiveCapacity) -> tuple[SchedulerSearcher, Any]:
        settings = WorkerSettings(scheduler.journal.directory, None, None)
        searcher = SchedulerSearcher(scheduler, settings, capacity)
        names = iter(map(str, range(99)))

        def fill() -> list[Share]:
            suggested = iter(lambda: searcher.suggest(next(names)), None)
            return [config["share"] for config in suggested]  # type: ignore[index, call-overload]

        return searcher, fill

    def test_a_node_that_comes_later_gets_trials_and_one_that_is_lost_none(self, scheduler: TrialScheduler) -> None:
        node = Capacity(4, 0)
        cluster = Cluster(node)
        _, fill = self.given(scheduler, cluster.capacity(share_of([node], ResourceSettings(cpus=1), "auto")))
        assert len(fill()) == 4
        cluster.has(node, node)
        assert len(fill()) == 4
        cluster.has(node)
        for number in range(5):
            scheduler.trial_failed(number, 1, "diverged")
        assert len(fill()) == 1  # three of eight are left, and four fit

    def test_where_it_may_grow_those_of_a_node_wait(self, scheduler: TrialScheduler) -> None:
        small, large = Capacity(2, 0), Capacity(4, 0)
        cluster = Cluster(small, large, may_grow=True)
        _, fill = self.given(scheduler, cluster.capacity(share_of([small, large], ResourceSettings(cpus=1), "auto")))
        assert len(fill()) == 6 + 4
        cluster.has()  # all are lost: they are asked for again
        for number in range(8):
            scheduler.trial_failed(number, 1, "diverged")
        assert len(fill()) == 2

    def test_what_waits_is_within_the_concurrency_asked_for(self, scheduler: TrialScheduler) -> None:
        cluster = Cluster(Capacity(4, 0), may_grow=True)
        for limit, num_given in ((3, 3), (6, 3)):
            share = share_of([Capacity(4, 0)], ResourceSettings(cpus=1), limit)
            _, fill = self.given(scheduler, cluster.capacity(share))
            assert len(fill()) == num_given

    def test_each_kind_of_gpu_has_its_own_fraction(self, scheduler: TrialScheduler) -> None:
        nodes = [Capacity(8, 1, accelerator_type="H100"), Capacity(8, 1, accelerator_type="T4")]
        whole = share_of(nodes, ResourceSettings(gpus="auto"), "auto")
        auto = whole.with_kinds([KindNeed("H100", 0.125, 0.01), KindNeed("T4", 0.5, 0.02)])
        searcher, fill = self.given(scheduler, Cluster(*nodes).capacity(auto))
        shares = fill()
        assert sorted((each.accelerator, each.gpus, each.context) for each in shares) == [
            *[("H100", 0.125, 0.01)] * 8,
            *[("T4", 0.5, 0.02)] * 2,
        ]
        first_t4 = next(number for number, each in enumerate(shares) if each.accelerator == "T4")
        searcher.on_trial_complete(str(first_t4))
        scheduler.trial_failed(first_t4, 1, "diverged")
        assert [each.accelerator for each in fill()] == ["T4"]
        resources = tune._resources_of({"share": shares[first_t4]}).required_resources
        assert resources == {"CPU": 1, "GPU": 0.5, "accelerator_type:T4": 0.001}
