"""Run by `test_packing.py`: trials on a cluster with two cards that do not exist, which meet at a gate.

The gate opens when eight trials are in at once, and nothing is left of either card: then no ninth could come in. The
first trial to arrive is killed before it gets there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import ray

from tests.end_to_end.stand_in import StandIn
from tests.tuner.tiny import space_of
from tuner.cluster import tune as trials
from tuner.cluster.connection import TUNE_ENVIRONMENT
from tuner.record.journal import Journal
from tuner.resources.share import Capacity, share_of
from tuner.scheduling.scheduler import TrialScheduler

NUM_CPUS, NUM_CARDS, NUM_TRIALS, AT_ONCE = 16, 2, 10, 8


@ray.remote(num_cpus=0)
class Gate:
    """Where all trials meet."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside: set[int] = set()
        self.most = 0
        self.cards: dict[int, str] = {}
        self.card_left: float | None = None
        self.killed = False

    async def must_die(self) -> bool:
        first, self.killed = not self.killed, True
        return first

    async def enter(self, trial: int, cards: str) -> None:
        self.cards[trial] = cards
        self.inside.add(trial)
        self.most = max(self.most, len(self.inside))
        if len(self.inside) == AT_ONCE:
            self.card_left = ray.available_resources().get("GPU", 0.0)
            self.open.set()
        await self.open.wait()

    async def leave(self, trial: int) -> None:
        self.inside.discard(trial)

    async def seen(self) -> dict[str, Any]:
        return {"most": self.most, "cards": self.cards, "card_left": self.card_left, "killed": self.killed}


class GatedTrainable(StandIn):
    """Goes through the gate, or dies before it."""

    def meanwhile(self) -> None:
        gate = ray.get_actor("gate")
        if ray.get(gate.must_die.remote()):
            os.kill(os.getpid(), signal.SIGKILL)
        ray.get(gate.enter.remote(self.assignment.number, os.environ["CUDA_VISIBLE_DEVICES"]))
        ray.get(gate.leave.remote(self.assignment.number))


def main(folder: Path) -> None:
    os.environ.update(TUNE_ENVIRONMENT)
    ray.init(address="local", num_cpus=NUM_CPUS, num_gpus=NUM_CARDS, include_dashboard=False, log_to_driver=False)
    gate = Gate.options(name="gate").remote()
    space = space_of(search__trials=NUM_TRIALS, resources={"cpus": 1, "gpus": 0.25})
    share = share_of([Capacity(NUM_CPUS, NUM_CARDS)], space.resources, "auto")
    trials.FoldTrainable = GatedTrainable  # type: ignore[misc, assignment]
    journal = Journal(folder)
    trials.run_trials(TrialScheduler(space, journal), {}, share, folder / "ray")
    seen = ray.get(gate.seen.remote()) | {"concurrency": share.concurrency, "note": share.note}
    (folder / "seen.json").write_text(json.dumps(seen))
    journal.close()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
