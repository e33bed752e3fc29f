"""Places on a cluster whose nodes come and go, which is listed by a stand-in."""

from __future__ import annotations

import logging

import pytest

from tuner.cluster import capacity
from tuner.cluster.capacity import GONE_S, NODE_GROUP, PERIOD_S, ClusterNodes, LiveCapacity, list_nodes
from tuner.resources.share import Capacity, Share

NODE = Capacity(4, 0)


class Listed:
    """What is listed, how often, and when."""

    def __init__(self, *nodes: Capacity, may_grow: bool = False) -> None:
        self.found: ClusterNodes | Exception = ClusterNodes(nodes, may_grow)
        self.times = 0
        self.now_s = 0.0
        self.changes: list[int] = []
        self.capacity = LiveCapacity(
            Share(1, 0, 4),
            on_change=lambda share: self.changes.append(share.concurrency),
            list_nodes=self,
            clock=lambda: self.now_s,
        )

    def __call__(self) -> ClusterNodes:
        self.times += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_nodes_are_listed_once_a_period() -> None:
    listed = Listed(NODE)
    assert listed.capacity.share.concurrency == 4
    listed.found = ClusterNodes((NODE, NODE))
    listed.now_s = PERIOD_S - 1
    assert (listed.capacity.share.concurrency, listed.times) == (4, 1)
    listed.now_s = PERIOD_S
    assert (listed.capacity.share.concurrency, listed.times) == (8, 2)
    assert listed.changes == [8]


def test_what_cannot_be_listed_is_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    listed = Listed(NODE, NODE)
    assert listed.capacity.share.concurrency == 8
    listed.found, listed.now_s = ConnectionError("the head does not answer"), PERIOD_S
    with caplog.at_level(logging.WARNING):
        assert listed.capacity.share.concurrency == 8
    assert "could not be listed: ConnectionError: the head does not answer" in caplog.text


def test_trials_wait_only_where_nodes_are_started_for_them() -> None:
    assert Listed(NODE).capacity.num_pending == 0
    assert Listed(NODE, Capacity(16, 0), may_grow=True).capacity.num_pending == 16


def test_fewer_wait_where_trials_need_more_than_at_first() -> None:
    nodes = Listed(Capacity(8, 1), may_grow=True)
    nodes.capacity = LiveCapacity(Share(1, 0.125, 8), list_nodes=nodes)
    assert nodes.capacity.num_pending == 8
    assert nodes.capacity.num_pending_of(Share(1, 0.5, 2)) == 2


def test_a_kind_is_gone_where_it_was_not_listed_for_a_time(caplog: pytest.LogCaptureFixture) -> None:
    """Not where nothing could be listed, or listing took long: then nodes count as they were."""
    t4, l4 = Capacity(8, 1, accelerator_type="T4"), Capacity(8, 1, accelerator_type="L4")
    listed = Listed(t4, l4)

    def look_again(after_s: float, found: ClusterNodes | Exception) -> list[bool]:
        listed.found, listed.now_s = found, listed.now_s + after_s
        assert listed.capacity.share
        return [listed.capacity.is_gone(kind) for kind in ("T4", "L4", "H100")]

    assert look_again(0, ClusterNodes((t4, l4))) == [False, False, False]
    assert look_again(2 * GONE_S, ConnectionError("the head does not answer")) == [False, False, False]
    assert look_again(PERIOD_S, ClusterNodes((t4,))) == [False, True, False]
    assert look_again(PERIOD_S, ClusterNodes((t4, l4))) == [False, False, False]


@pytest.mark.parametrize(("labels", "may_grow"), [({}, False), ({NODE_GROUP: "workers"}, True)])
def test_a_node_of_a_group_is_one_of_which_there_may_be_more(
    monkeypatch: pytest.MonkeyPatch, labels: dict[str, str], may_grow: bool
) -> None:
    node = {"Resources": {"CPU": 4.0}, "Labels": labels}
    monkeypatch.setattr(capacity, "alive_nodes", lambda: [{"Resources": {"CPU": 1.0}}, node])
    assert list_nodes() == ClusterNodes((Capacity(1, 0), Capacity(4, 0)), may_grow)
