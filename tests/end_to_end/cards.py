"""Run by `test_cards.py`: searches on one Ray cluster with two cards that do not exist, one search after the other.

`packing`: each trial gets a half of a card, and all meet at a gate that opens when four are in at once, and nothing is
left of either card: then no fifth could come in. The first trial to arrive is killed before it gets there.

`growth`: a share of a card that was measured as a quarter turns out to be too little: trials run out of memory below a
half. Then a command goes on with the search, and must not measure again.

`stranded`: of two kinds of cards one is lost before its trials have begun, which wait for it in Ray.

`jobs`: twelve jobs on halves of cards, as retrainings are, one of which is killed.

`together`: two places for one trial, whose folds are trained at once; on the processor, and nothing stands in for
anything. `alone` is the same search with one place.

Everything but what is said here is real: the probe's process, the actors, and Ray's count of who has how much of a
card. What was seen goes to `<search>/seen.jsonl`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch

from tests.end_to_end.stand_in import StandIn
from tests.tuner.tiny import space_of
from tuner.cluster import capacity, gpu_probe, tune
from tuner.cluster.capacity import ClusterNodes
from tuner.cluster.connection import TUNE_ENVIRONMENT, alive_nodes
from tuner.cluster.tasks import as_completed
from tuner.experiment.checks import load_images
from tuner.experiment.search_experiment import load_experiment
from tuner.record.directory import RunDirectory
from tuner.record.journal import open_search_journal
from tuner.resources.gpu_memory import GIB, GpuMemoryNeed
from tuner.resources.share import Capacity, KindNeed, Share, share_of
from tuner.scheduling.scheduler import TrialScheduler

NUM_CPUS, NUM_CARDS = 8, 2
PACKED_TRIALS, AT_ONCE, PACKED_SHARE = 6, 4, 0.5
GROWN_TRIALS, MEASURED_SHARE, ENOUGH = 2, 0.25, 0.5
STRANDED_TRIALS = 12
AUTO = {"cpus": 1, "gpus": "auto"}
CARD = "accelerator_type:T4"
NUM_JOBS, KILLED_JOB = 12, 5
GATE = "gate"


def note(folder: Path, **seen: Any) -> None:
    """Appends what was seen in this process."""
    seen |= {"pid": os.getpid(), "cards": os.environ.get("CUDA_VISIBLE_DEVICES")}
    with (folder / "seen.jsonl").open("a") as file:
        file.write(json.dumps(seen) + "\n")


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
        gate = ray.get_actor(GATE)
        if ray.get(gate.must_die.remote()):
            os.kill(os.getpid(), signal.SIGKILL)
        ray.get(gate.enter.remote(self.assignment.number, os.environ["CUDA_VISIBLE_DEVICES"]))
        ray.get(gate.leave.remote(self.assignment.number))


class HungryTrainable(StandIn):
    """Finds its card full where it has less than enough of it."""

    def meanwhile(self) -> None:
        given = ray.get_runtime_context().get_assigned_resources()["GPU"]
        share = self.config["share"].gpus
        note(self.config["settings"].directory.path, trial=self.assignment.number, gpus=share, given=given)
        if given < ENOUGH:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


class EndsAtOnce(StandIn):
    """Has nothing to wait for."""

    def meanwhile(self) -> None:
        """Does nothing."""


def run_packing(folder: Path) -> None:
    gate = Gate.options(name=GATE).remote()
    space = space_of(search__trials=PACKED_TRIALS, resources={"cpus": 1, "gpus": PACKED_SHARE})
    share = share_of([Capacity.of(node) for node in alive_nodes()], space.resources, "auto")
    tune.FoldTrainable = GatedTrainable  # type: ignore[misc, assignment]
    with closing(open_search_journal(RunDirectory(folder))) as journal:
        tune.run_trials(TrialScheduler(space, journal), {}, share)
    seen = ray.get(gate.seen.remote()) | {"concurrency": share.concurrency, "note": share.note}
    (folder / "gate.json").write_text(json.dumps(seen))


def run_growth(folder: Path) -> None:
    def probe_gpu_memory(configs: Sequence[Any], *_: Any) -> GpuMemoryNeed:
        note(folder, probed=len(configs), given=ray.get_runtime_context().get_assigned_resources()["GPU"])
        return GpuMemoryNeed(3 * GIB, 0, GIB // 10, 16 * GIB)

    gpu_probe.probe_gpu_memory = probe_gpu_memory
    tune.FoldTrainable = HungryTrainable  # type: ignore[misc, assignment]
    space = space_of(search__trials=GROWN_TRIALS, search__folds_in_parallel=False, resources=AUTO)
    asked = share_of([Capacity.of(node) for node in alive_nodes()], space.resources, "auto")
    with closing(open_search_journal(RunDirectory(folder))) as journal:
        share = gpu_probe.resolve_share(asked, [space], {}, 2, journal)
        note(folder, printed=share.note)
        tune.run_trials(TrialScheduler(space, journal), {}, share)
    with closing(open_search_journal(RunDirectory(folder))) as journal:
        note(folder, printed=gpu_probe.resolve_share(asked, [space], {}, 2, journal).note)


def run_stranded(folder: Path) -> None:
    space = space_of(search__trials=STRANDED_TRIALS, search__folds_in_parallel=False, resources=AUTO)
    listed = [Capacity(NUM_CPUS, NUM_CARDS, accelerator_type=kind) for kind in ("T4", "H100")]
    kinds = [KindNeed(node.accelerator_type, PACKED_SHARE, context=0.01) for node in listed]
    share = share_of(listed, space.resources, "auto").with_kinds(kinds)

    def list_nodes() -> ClusterNodes:
        nodes = tuple(listed)
        del listed[1:]
        return ClusterNodes(nodes)

    capacity.PERIOD_S = capacity.GONE_S = 2.0
    tune.LiveCapacity = partial(capacity.LiveCapacity, list_nodes=list_nodes)  # type: ignore[misc, assignment]
    tune.FoldTrainable = EndsAtOnce  # type: ignore[misc, assignment]
    with closing(open_search_journal(RunDirectory(folder))) as journal:
        tune.run_trials(TrialScheduler(space, journal), {}, share)
    tune.LiveCapacity = capacity.LiveCapacity  # type: ignore[misc]


def run_jobs(folder: Path) -> None:
    folder.mkdir()
    share = Share(1, PACKED_SHARE, AT_ONCE)
    for number in as_completed(job_on_a_card, [(folder, number) for number in range(NUM_JOBS)], share):
        note(folder, ended=number)
    wait_until_free(folder)


def job_on_a_card(folder: Path, number: int) -> int:
    given = ray.get_runtime_context().get_assigned_resources()["GPU"]
    note(folder, job=number, given=given)
    if number == KILLED_JOB and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wait_until_free(folder: Path) -> None:
    """Waits until all cards are free, as a command does that starts its next phase."""
    rest = ray.remote(num_cpus=0)(pass_by)
    while ray.available_resources().get("GPU", 0) < NUM_CARDS:
        ray.get(rest.remote())
    note(folder, free=NUM_CARDS)


def pass_by() -> None:
    """Takes a moment of Ray's."""


def run_trial(folder: Path, space_file: Path, places: int) -> None:
    space = load_experiment(space_file, {"search.trials": 1, "search.concurrency": places, "resources.gpus": 0})
    share = share_of([Capacity(cpus=places, gpus=0)], space.resources, space.search.concurrency)
    with closing(open_search_journal(RunDirectory(folder))) as journal:
        tune.run_trials(TrialScheduler(space, journal), load_images(space), share)


def main(folder: Path, space_file: Path) -> None:
    os.environ.update(TUNE_ENVIRONMENT)
    ray.init(
        address="local",
        num_cpus=NUM_CPUS,
        num_gpus=NUM_CARDS,
        resources={CARD: 1},
        include_dashboard=False,
        log_to_driver=False,
    )
    run_trial(folder / "together", space_file, places=2)
    run_trial(folder / "alone", space_file, places=1)
    run_packing(folder / "packing")
    run_growth(folder / "growth")
    run_stranded(folder / "stranded")
    run_jobs(folder / "jobs")
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
