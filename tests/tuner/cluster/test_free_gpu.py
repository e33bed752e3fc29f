"""Which part of a GPU is reserved, of a cluster of which some is free; Ray's groups are replaced."""

from __future__ import annotations

from typing import Any

import pytest

from tuner.cluster import free_gpu
from tuner.cluster.capacity import PERIOD_S, ClusterNodes, LiveCapacity
from tuner.cluster.free_gpu import PART_WAIT_S, NoGpuFree, free_part, reserved, spread_over_free
from tuner.experiment.settings import ResourceSettings
from tuner.resources.share import Capacity, KindNeed, Share, share_of

SHARE = Share(2, 1, 8)


class Groups:
    """Reservations that succeed up to a part, and are recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: float) -> None:
        self.free = free
        self.asked: list[tuple[dict[str, float], float]] = []
        self.held: list[Any] = []
        self.nodes: tuple[Capacity, ...] = ()
        monkeypatch.setattr(free_gpu, "LiveCapacity", lambda share: LiveCapacity(share, list_nodes=self.list_nodes))
        monkeypatch.setattr(free_gpu, "placement_group", self.reserve)
        monkeypatch.setattr(free_gpu, "remove_placement_group", self.held.remove)

    def before_wait(self) -> None:
        """Nothing, but where a test replaces it."""

    def list_nodes(self) -> ClusterNodes:
        if not self.nodes:
            raise ConnectionError  # they count as unchanged
        return ClusterNodes(self.nodes)

    def reserve(self, bundles: list[dict[str, float]]) -> Any:
        (bundle,), groups = bundles, self

        class Group:
            def wait(self, wait_s: float) -> bool:
                groups.before_wait()
                groups.asked.append((bundle, wait_s))
                return bundle["GPU"] <= groups.free

        self.held.append(group := Group())
        return group


def test_a_whole_one_where_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, free=1)
    with free_part(SHARE, "T4", wait_s=60) as (part, room):
        assert (part, [room]) == (1, groups.held)
    assert groups.held == []
    assert groups.asked == [({"CPU": 2, "GPU": 1, "accelerator_type:T4": 0.001}, 60)]


def test_else_the_largest_part_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, free=0.3)
    with free_part(SHARE, "", wait_s=60) as (part, room):
        assert (part, [room]) == (0.25, groups.held)
    assert [(bundle["GPU"], wait_s) for bundle, wait_s in groups.asked] == [
        (1, 60),
        (0.5, PART_WAIT_S),
        (0.25, PART_WAIT_S),
    ]


def test_where_none_is_nothing_stays_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, free=0)
    with pytest.raises(NoGpuFree, match="no GPU became free within 60 s"), free_part(SHARE, "", wait_s=60):
        pass
    assert groups.held == []


def test_what_the_block_raises_releases_it(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, free=1)
    with pytest.raises(MemoryError), free_part(SHARE, "", wait_s=60):
        raise MemoryError
    assert groups.held == []


def test_what_is_free_is_reserved_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, said = Groups(monkeypatch, free=0.25), list[str]()
    with reserved(Share(2, 0.25, 1), "T4", said.append) as room:
        assert groups.held == [room]
    assert groups.held == said == []
    assert groups.asked == [({"CPU": 2, "GPU": 0.25, "accelerator_type:T4": 0.001}, PART_WAIT_S)]


def test_what_other_work_has_is_waited_for_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, said = Groups(monkeypatch, free=0), list[str]()

    def become_free() -> None:
        groups.free = 1 if len(groups.asked) == 3 else 0

    monkeypatch.setattr(groups, "before_wait", become_free)
    with reserved(Share(2, 0.25, 1), "T4", said.append):
        assert len(groups.held) == 1
    assert [waited_s for _, waited_s in groups.asked] == [PART_WAIT_S, PERIOD_S, PERIOD_S, PERIOD_S]
    assert said == ["waiting for 2 CPUs and 0.25 GPUs (T4) on one node: other work of the cluster has them"]


@pytest.mark.parametrize(("free", "part", "asked"), [(1, 1, [1]), (0.5, 0.5, [1, 0.5]), (0.1, 0.125, [1, 0.5, 0.25])])
def test_few_jobs_are_spread_over_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: float, part: float, asked: list[float]
) -> None:
    groups = Groups(monkeypatch, free)
    share = share_of([Capacity(64, 2)], ResourceSettings(gpus="auto"), "auto").sized_for(0.125)
    assert spread_over_free(share, 2).gpus == part
    assert [bundle["GPU"] for bundle, _ in groups.asked] == asked
    assert groups.held == []


def test_few_jobs_are_spread_over_nodes_that_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, free=1)
    groups.nodes = (Capacity(8, 1),) * 2
    share = share_of([Capacity(8, 1)], ResourceSettings(gpus="auto"), "auto").sized_for(0.125)
    spread = spread_over_free(share, 2)
    assert (spread.gpus, spread.concurrency) == (1, 2)


def test_kinds_are_spread_no_further_than_their_needs_where_a_larger_node_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which another number of trials fits on than on those that the share was made for."""
    groups = Groups(monkeypatch, free=0)
    nodes = [Capacity(8, 1, accelerator_type=kind) for kind in ("H100", "T4")]
    groups.nodes = (*nodes, Capacity(64, 1, accelerator_type="H100"))
    share = share_of(nodes, ResourceSettings(gpus="auto"), "auto")
    share = share.with_kinds([KindNeed(node.accelerator_type, 0.01, 0.001) for node in nodes])
    assert [each.gpus for each in spread_over_free(share, 2).by_kind()] == [1 / 64, 1 / 8]


def test_a_share_that_is_not_spread_reserves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, free=0)
    assert spread_over_free(SHARE, 2) == SHARE
    assert groups.asked == []
