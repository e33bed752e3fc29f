"""Places for trials on the cluster as it is at the moment: nodes that come later count, and lost ones do not."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tuner.cluster.connection import alive_nodes
from tuner.messages.wording import one_line
from tuner.resources.share import Capacity, Share

logger = logging.getLogger(__name__)

PERIOD_S = 10.0
"""How often the nodes are listed."""

LOSS_KNOWN_S = 30.0
"""How long after the loss of a node it may be listed at most: Ray's five signs of life, three seconds each, and
`PERIOD_S`."""

GONE_S = 60.0
"""How long no node with a kind of GPU is listed before what waits for that kind is given another."""

NODE_GROUP = "ray.io/node-group"
"""Label of a node that an operator or an autoscaler has started, with the name of its group. Of such nodes there may be
more."""


@dataclass(frozen=True)
class ClusterNodes:
    """Nodes of a cluster, and whether more may be started for trials that wait."""

    nodes: tuple[Capacity, ...]
    may_grow: bool = False


def list_nodes() -> ClusterNodes:
    """Lists the nodes of the cluster that this process has joined."""
    nodes = alive_nodes()
    may_grow = any(node.get("Labels", {}).get(NODE_GROUP) for node in nodes)
    return ClusterNodes(tuple(Capacity.of(node) for node in nodes), may_grow)


class LiveCapacity:
    """Shares of trials and places for them on the cluster as it is, from a share as it was at the start.

    Nodes are listed again every `PERIOD_S`; if that fails, they count as unchanged. `on_change` is called with the
    share when its number of places has changed.

        capacity = LiveCapacity(share)
        capacity.share.concurrency    # trials that have room now
        capacity.num_pending          # trials that may wait beside them, so that an autoscaler starts a node
    """

    def __init__(
        self,
        share: Share,
        on_change: Callable[[Share], object] = lambda share: None,
        list_nodes: Callable[[], ClusterNodes] = list_nodes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._on_change = on_change
        self._list_nodes = list_nodes
        self._clock = clock
        self._listed_s: float | None = None
        self._may_grow = False
        self._seen: set[Capacity] = set()
        self._lost_s: dict[str, float] = {}
        self._had_s: dict[str, float] = {}
        self._known_s = -math.inf

    @property
    def share(self) -> Share:
        """Share of each trial on the cluster as it is."""
        if self._listed_s is None or self._clock() - self._listed_s >= PERIOD_S:
            self._list()
        return self._share

    @property
    def num_pending(self) -> int:
        """Number of trials that may wait for room: those of one more node, where nodes are started for them, but none
        beyond `search.concurrency`."""
        return self.num_pending_of(self.share)

    def num_pending_of(self, share: Share) -> int:
        """The same for a share that has grown."""
        if not self._may_grow:
            return 0
        wanted = share.most_on_a_node([*self._seen])
        return wanted if share.limit is None else min(wanted, max(0, share.limit - share.concurrency))

    def note_node_loss(self, accelerator: str) -> None:
        """A trial on a kind of GPU has lost its node, which may be listed for some time yet."""
        self._lost_s[accelerator] = self._clock()

    def is_settled(self, accelerator: str) -> bool:
        """Whether the nodes with this kind of GPU are listed as they are: no loss of one is still unknown to Ray."""
        lost_s = self._lost_s.get(accelerator)
        return lost_s is None or self._clock() - lost_s >= LOSS_KNOWN_S

    def is_gone(self, accelerator: str) -> bool:
        """Whether nodes with this kind of GPU have been listed, and none when they were listed `GONE_S` later."""
        had_s = self._had_s.get(accelerator)
        return had_s is not None and self._known_s - had_s >= GONE_S

    @property
    def num_given_out(self) -> int:
        """Number of jobs that are given to Ray at once: those that have room and those that may wait, at least one."""
        return max(1, self.share.concurrency + self.num_pending)

    def _list(self) -> None:
        self._listed_s = self._clock()
        try:
            found = self._list_nodes()
        except Exception as error:  # of any kind, as the connection may be what is interrupted
            logger.warning("the nodes of the cluster could not be listed: %s", one_line(error))
            return
        before, self._share = self._share, self._share.on(found.nodes)
        self._may_grow = found.may_grow
        self._seen.update(found.nodes)
        self._known_s = self._clock()  # as it may have taken long, or not be so now
        self._had_s |= dict.fromkeys((node.accelerator_type for node in found.nodes if node.gpus), self._known_s)
        if self._share.concurrency != before.concurrency:
            self._on_change(self._share)
