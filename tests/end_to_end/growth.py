"""Run by `test_growth.py`: a share of a card that does not exist, measured as a quarter, turns out to be too little.

Trials run out of memory below half a card. Everything else is real: the probe's process, the actors, and Ray's count
of who has how much of the card. Then a command goes on with the search, and must not probe again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import ray
import torch

from tests.end_to_end.stand_in import StandIn
from tests.tuner.tiny import space_of
from tuner.cluster import gpu_probe as cards
from tuner.cluster import tune as trials
from tuner.cluster.connection import TUNE_ENVIRONMENT, alive_nodes
from tuner.record.journal import Journal
from tuner.resources.gpu_memory import GIB, GpuMemoryNeed
from tuner.resources.share import Capacity, Share, share_of
from tuner.scheduling.scheduler import TrialScheduler

NUM_CPUS, NUM_CARDS, NUM_TRIALS, ENOUGH = 6, 1, 3, 0.5
CARD = "accelerator_type:T4"


def says(folder: Path, **what: Any) -> None:
    """Notes what happened in this process."""
    what |= {"pid": os.getpid(), "cards": os.environ.get("CUDA_VISIBLE_DEVICES")}
    with (folder / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(what) + "\n")


class HungryTrainable(StandIn):
    """Finds its card full where it has less than enough of it."""

    def meanwhile(self) -> None:
        share: Share = self.config["share"]
        given = ray.get_runtime_context().get_assigned_resources()["GPU"]
        says(self.config["safety"].experiment / "said", trial=self.assignment.number, gpus=share.gpus, given=given)
        if given < ENOUGH:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def main(folder: Path) -> None:
    os.environ.update(TUNE_ENVIRONMENT)
    ray.init(
        address="local",
        num_cpus=NUM_CPUS,
        num_gpus=NUM_CARDS,
        resources={CARD: 1},
        include_dashboard=False,
        log_to_driver=False,
    )
    (folder / "said").mkdir()

    def probe_gpu_memory(configs: Sequence[Any], images: Any, num_folds: int, share: Share) -> GpuMemoryNeed:
        given = ray.get_runtime_context().get_assigned_resources()
        says(folder / "said", probed=len(configs), given=given["GPU"])
        return GpuMemoryNeed(3 * GIB, 0, GIB // 10, 16 * GIB)

    cards.probe_gpu_memory = probe_gpu_memory
    trials.FoldTrainable = HungryTrainable  # type: ignore[misc, assignment]
    space = space_of(search__trials=NUM_TRIALS, resources={"cpus": 1, "gpus": "auto"})
    nodes = [Capacity.of(node) for node in alive_nodes()]
    first = share_of(nodes, space.resources, space.search.concurrency)
    with closing(Journal(folder)) as journal:
        share = cards.resolve_share(first, [space], {}, 2, journal)
        print(share.note)
        trials.run_trials(TrialScheduler(space, journal), {}, share, folder / "ray")
    with closing(Journal(folder)) as journal:
        print(cards.resolve_share(first, [space], {}, 2, journal).note)
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
