"""Which trials Ray Tune's searcher gives out on a cluster whose nodes come and go, and are of several kinds."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from tests.tuner.tiny import search_journal, space_of
from tuner.cluster import tune
from tuner.cluster.capacity import GONE_S, LOSS_KNOWN_S, PERIOD_S, ClusterNodes, LiveCapacity
from tuner.cluster.trainable import WorkerSettings
from tuner.cluster.tune import SchedulerSearcher, StrandedTrials
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


KINDS = [Capacity(8, 1, accelerator_type="H100"), Capacity(8, 1, accelerator_type="T4")]


class TestKinds:
    """Trials on GPUs of two kinds, of which nodes are lost."""

    @pytest.fixture
    def scheduler(self, tmp_path: Path) -> TrialScheduler:
        changes = {"search__trials": 40, "search__sampler": "random", "search__racing": {"rule": "none"}}
        return TrialScheduler(space_of(**changes), search_journal(tmp_path))

    @pytest.fixture
    def share(self) -> Share:
        whole = share_of(KINDS, ResourceSettings(gpus="auto"), "auto")
        return whole.with_kinds([KindNeed("H100", 0.125, 0.01), KindNeed("T4", 0.5, 0.02)])

    def given(self, scheduler: TrialScheduler, capacity: LiveCapacity) -> tuple[SchedulerSearcher, dict[str, Any]]:
        """Gives out as many trials as are suggested, by Tune's identifiers."""
        searcher = SchedulerSearcher(scheduler, WorkerSettings(scheduler.journal.directory, None, None), capacity)
        return searcher, fill(searcher)

    def test_a_kind_that_has_lost_a_node_gets_nothing_until_the_nodes_are_known(
        self, scheduler: TrialScheduler, share: Share
    ) -> None:
        cluster = Cluster(*KINDS)
        capacity = cluster.capacity(share)
        searcher, given = self.given(scheduler, capacity)
        lost = [name for name, config in given.items() if config["share"].accelerator == "T4"]
        for name in lost:
            capacity.note_node_loss("T4")
            assignment = given[name]["assignment"]
            scheduler.node_lost(assignment.number, assignment.folds[0], "gone")
            searcher.on_trial_complete(name, error=True)
        assert fill(searcher) == {}, "a T4 is still listed, but is none"
        cluster.now_s += LOSS_KNOWN_S
        assert [config["share"].accelerator for config in fill(searcher).values()] == ["T4", "T4"]

    def test_what_waits_for_a_node_to_be_started_waits_for_any(self, scheduler: TrialScheduler, share: Share) -> None:
        """An autoscaler knows no node type by the kind of its GPU."""
        cluster = Cluster(*KINDS, may_grow=True)
        _searcher, given = self.given(scheduler, cluster.capacity(share))
        kinds = Counter(config["share"].accelerator for config in given.values())
        assert kinds == {"H100": 8, "T4": 2, "": 2}  # two fit on a node, whichever it is
        (any_kind,) = {config["share"] for config in given.values() if not config["share"].accelerator}
        assert any_kind.gpus == 0.5
        assert tune._resources_of({"share": any_kind}).required_resources == {"CPU": 1, "GPU": 0.5}

    def test_where_all_gpus_are_lost_some_trials_wait_for_a_node(self, scheduler: TrialScheduler, share: Share) -> None:
        cluster = Cluster(*KINDS, may_grow=True)
        capacity = cluster.capacity(share)
        assert capacity.share.concurrency == 10
        cluster.has(Capacity(4, 0))  # the head
        _searcher, given = self.given(scheduler, capacity)
        assert [config["share"].accelerator for config in given.values()] == [""] * 2

    def test_what_waits_for_a_kind_that_is_gone_is_given_back(self, scheduler: TrialScheduler, share: Share) -> None:
        cluster = Cluster(*KINDS)
        capacity = cluster.capacity(share)
        _searcher, given = self.given(scheduler, capacity)
        trials = [
            SimpleNamespace(status=Trial.PENDING, config=config, name=name)
            for name, config in given.items()
            if config["share"].accelerator == "T4"
        ]
        stopped, staged = list[str](), trials[:1]
        controller = SimpleNamespace(
            get_live_trials=lambda: list(trials),
            get_trials=list,
            stop_trial=lambda trial: stopped.append(trial.name),
            _staged_trials=staged,
            _unstage_trial_with_resources=staged.remove,
        )
        tunes = StrandedTrials(scheduler, capacity)
        cluster.has(KINDS[0])
        tunes.choose_trial_to_run(controller)
        assert stopped == []
        cluster.now_s += GONE_S
        before = scheduler.num_assigned
        tunes.choose_trial_to_run(controller)
        assert sorted(stopped) == sorted(trial.name for trial in trials)
        assert before - scheduler.num_assigned == 2
        assert staged == [], "Tune would reuse no actor of other resources any more"
        assert pickle.loads(pickle.dumps(tunes)).__class__ is FIFOScheduler


def fill(searcher: SchedulerSearcher) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while (config := searcher.suggest(name := str(next(NAMES)))) is not None:
        found[name] = config
    return found


NAMES = itertools.count()
