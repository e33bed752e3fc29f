"""Free GPUs: waits for a whole one for a while, then takes the largest part of one that nobody else uses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from tuner.cluster.capacity import PERIOD_S, LiveCapacity
from tuner.messages.wording import amount
from tuner.resources.share import Share, of_kind

PARTS = (0.5, 0.25, 0.125)
"""Parts of a GPU that are tried one after the other once no whole one has become free."""

PART_WAIT_S = 5.0
"""How long Ray has to reserve a part that is free, and actors that were killed to leave theirs."""


class NoGpuFree(Exception):
    """Error for a cluster on whose GPUs no part became free in time."""


def spread_over_free(share: Share, num_jobs: int | None) -> Share:
    """Returns `share.spread_over(num_jobs)` on the cluster as it is now, but no larger part of a GPU than is free on
    one, or else `share`: where others hold a half of each, a job that asks for a whole one would wait for them to end.
    """
    share = LiveCapacity(share).share
    if share.kinds:  # by the nodes of the moment, as those that are compared with it below
        share = share.with_kinds(share.kinds)
    spread = share.spread_over(num_jobs)
    while num_jobs and spread != share and not any(map(_has_room, spread.by_kind())):
        num_jobs *= 2
        spread = share.spread_over(num_jobs)
    return spread


def _has_room(share: Share) -> bool:
    room = placement_group([{"CPU": share.cpus, "GPU": share.gpus, **of_kind(share.accelerator)}])
    try:
        return bool(room.wait(PART_WAIT_S))
    finally:
        remove_placement_group(room)


@contextlib.contextmanager
def reserved(share: Share, accelerator: str, say: Callable[[str], object]) -> Iterator[PlacementGroup]:
    """Reserves the CPUs and the part of a GPU of `share` for the block, on a GPU of a kind ("": any).

    Waits for them as long as it takes: no trial can run before. Where other work has them, `say` is told so.
    """
    room = placement_group([{"CPU": share.cpus, "GPU": share.gpus, **of_kind(accelerator)}])
    try:
        if not room.wait(PART_WAIT_S):
            kind = f" ({accelerator})" if accelerator else ""
            needed = f"{amount(share.cpus, 'CPU')} and {amount(share.gpus, 'GPU')}{kind}"
            say(f"waiting for {needed} on one node: other work of the cluster has them")
            while not room.wait(PERIOD_S):
                pass
        yield room
    finally:
        remove_placement_group(room)


@contextlib.contextmanager
def free_part(share: Share, accelerator: str, wait_s: float) -> Iterator[tuple[float, PlacementGroup]]:
    """Reserves a GPU of a kind ("": any) for the block, with the CPUs of `share`.

    Yields the part of it, and the room for tasks. After `wait_s` it is the largest of `PARTS` that is free.

    Raises:
        NoGpuFree: if none of them is.
    """
    for part in (1.0, *PARTS):
        room = placement_group([{"CPU": share.cpus, "GPU": part, **of_kind(accelerator)}])
        try:
            if room.wait(wait_s if part == 1 else PART_WAIT_S):
                yield part, room
                return
        finally:
            remove_placement_group(room)
    raise NoGpuFree(f"no {accelerator or 'GPU'} became free within {wait_s:g} s")
