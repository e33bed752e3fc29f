"""What the driver of a large search spends on a trial: `python -m benchmarks.driver`.

Workers that train nothing, on a simulated clock, go through a search of 10,000 trials. Scheduler, TPE, racing, journal
on a disk and progress display are real. Figures: the driver's CPU time for a trial in the last thousand by that in the
first, the growth of its memory from the first thousand to the last, and the number of GPUs that one driver keeps busy
with four trials of five minutes on each, while as many trials as fit there are running.

That is without Ray. `--on-ray 2000` measures the same growth in a search on Ray, two trials at once, and beside it in
Ray Tune alone with the same sampler, which is what its own loop costs. `--ray` measures Ray Tune's wait for one event
among those that trials at work may send. `--quality` compares what TPE proposes, on a known function, where it sees a
bounded part of the trials and where it sees all. `--profile` prints where time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import heapq
import math
import multiprocessing
import os
import pstats
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import ray
from rich.console import Console

from benchmarks import search
from benchmarks.figures import Figure, report
from benchmarks.memory import kib
from benchmarks.search import fold_result, space_of
from trainables.results import FoldResult
from tuner.cli.console import output_redirected_to
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.connection import cluster
from tuner.execution.run_search import search_started
from tuner.experiment.dimensions import LogUniform, Uniform
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.directory import RunDirectory
from tuner.record.history import TrialRecord
from tuner.record.journal import open_search_journal
from tuner.resources.share import Share
from tuner.scheduling.assignment import Assignment
from tuner.scheduling.sampler import SEEN, TrialSampler
from tuner.scheduling.scheduler import Decision, TrialScheduler
from tuner.scheduling.seen_trials import Limits

GROWTH_LIMIT = 1.5
MEMORY_LIMIT_MIB = 100.0
CARDS_LIMIT = 1000.0
QUALITY_LIMIT = 1.25

ALL = Limits(best=1, latest=10**9, running=10**9)

BLOCK = 1000
TRIALS_A_CARD = 4
TRIAL_S = 300.0


class Course(NamedTuple):
    """Block by block: seconds of CPU that the driver took for a trial, seconds that it waited for the disk, and its
    resident memory in MiB at the end."""

    cpu_s: list[float]
    sync_s: list[float]
    resident_mib: list[float]


class SyncClock:
    """Seconds that calls of `os.fsync` took, which is the rest of what a trial takes of the driver's time."""

    total_s = 0.0

    def __call__(self, descriptor: int) -> None:
        """Syncs a file, as `os.fsync` does."""
        started_s = time.perf_counter()
        FSYNC(descriptor)
        self.total_s += time.perf_counter() - started_s


FSYNC = os.fsync


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver")
    parser.add_argument("--trials", type=int, default=10_000, help="of the simulation; 0: none")
    parser.add_argument("--places", type=int, default=64, help="trials at once while the growth is measured")
    parser.add_argument("--cards", type=int, default=1000, help="with four trials each at once; 0: not measured")
    parser.add_argument("--block", type=int, default=BLOCK)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--on-ray", type=int, default=0, metavar="TRIALS", help="trials of a search on Ray; 0: none")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--quality", type=int, default=0, metavar="SEEDS", help="searches of 1,500 trials of each kind")
    arguments = parser.parse_args(argv)
    figures: list[Figure] = []
    if arguments.trials:
        figures += simulated(arguments)
    if arguments.on_ray:
        figures += on_ray(arguments.on_ray, arguments.block)
    if arguments.ray:
        wait_s = tune_wait_s(TRIALS_A_CARD * max(arguments.cards, 1))
        print(f"Ray Tune's wait for an event: {1000 * wait_s:.2f} ms of driver CPU")
    if arguments.quality:
        ratios = [shortfall(seed, SEEN["tpe"]) / shortfall(seed, ALL) for seed in range(arguments.quality)]
        print("shortfall of bounded proposals by that of all:", *(f"{ratio:.3f}" for ratio in ratios))
        figures.append(Figure("driver_bounded_over_all_shortfall", statistics.fmean(ratios), QUALITY_LIMIT))
    return report(figures)


def simulated(arguments: argparse.Namespace) -> list[Figure]:
    """The figures of the simulation; prints a line a block."""
    with tempfile.TemporaryDirectory(prefix="bench-driver-") as folder:
        profile = cProfile.Profile() if arguments.profile else None
        narrow = simulate(arguments.trials, arguments.places, arguments.block, Path(folder) / "narrow", profile)
        show(f"{arguments.places} trials at once", narrow, arguments.block)
        if profile is not None:
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        figures = [
            Figure("driver_last_over_first_block_cpu", narrow.cpu_s[-1] / narrow.cpu_s[0], GROWTH_LIMIT),
            Figure("driver_memory_growth_mib", narrow.resident_mib[-1] - narrow.resident_mib[0], MEMORY_LIMIT_MIB),
        ]
        if arguments.cards:
            places = TRIALS_A_CARD * arguments.cards
            num_trials = max(arguments.trials, 2 * places)
            wide = simulate(num_trials, places, arguments.block, Path(folder) / "wide")
            show(f"{places} trials at once", wide, arguments.block)
            full = (num_trials - places) // arguments.block - 1  # the last block in which all places were taken
            busy = TRIAL_S / (wide.cpu_s[full] + wide.sync_s[full]) / TRIALS_A_CARD
            figures.append(Figure("driver_cards_kept_busy", busy, CARDS_LIMIT, at_least=True))
    return figures


def on_ray(num_trials: int, block: int) -> list[Figure]:
    """The growth of a search on Ray, and, printed alone, of Ray Tune with the same sampler. Each runs in a process of
    its own, in which nothing has been allocated before."""
    blocks = {}
    for title in ("search on Ray", "Ray Tune alone"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            course = process.submit(_course_on_ray, num_trials, alone=title == "Ray Tune alone").result()
        ends = range(block, num_trials + 1, block)
        cpu_s = [course.cpu_cost_s(max(end - block, search.WARM_UP), end - 1) for end in ends]
        resident_mib = [course.resident_mib[end // search.BLOCK - 1] for end in ends]
        blocks[title] = Course(cpu_s, [0.0] * len(cpu_s), resident_mib)
        show(title, blocks[title], block)
    ours = blocks["search on Ray"]
    return [
        Figure("driver_on_ray_last_over_first_block_cpu", ours.cpu_s[-1] / ours.cpu_s[0], GROWTH_LIMIT),
        Figure("driver_on_ray_memory_growth_mib", ours.resident_mib[-1] - ours.resident_mib[0], MEMORY_LIMIT_MIB),
    ]


def _course_on_ray(num_trials: int, alone: bool) -> search.Course:
    share = Share(1, 0, 2, limit=2)
    with (
        tempfile.TemporaryDirectory(prefix="bench-driver-") as folder,
        output_redirected_to(Path(folder) / "chatter.log"),
        cluster(None),
    ):
        if alone:
            return search.bare(num_trials, share, Path(folder) / "alone", with_tpe=True)
        return search.searched(space_of(num_trials), share, Path(folder) / "searched")[0]


def tune_wait_s(num_running: int, num_events: int = 100) -> float:
    """CPU seconds of Ray Tune's wait for the next event among `num_running` trainings: it shuffles their futures, and
    has Ray wait for one of them (`ray.air.execution._internal.actor_manager.RayActorManager.next`)."""

    class Worker:
        def hold(self) -> None:
            threading.Event().wait()

        def answer(self) -> None:
            return None

    with cluster(None):
        remote: Any = ray.remote(num_cpus=0)(Worker)
        holder, answerer = remote.remote(), remote.remote()
        futures = [holder.hold.remote() for _ in range(num_running)]
        ray.get(answerer.answer.remote())
        spent_s = 0.0
        for _ in range(num_events):
            ready = answerer.answer.remote()
            started_s = time.process_time()
            waited = [*futures, ready]
            random.shuffle(waited)
            ray.wait(waited, num_returns=1)
            spent_s += time.process_time() - started_s
    return spent_s / num_events


def shortfall(seed: int, seen: Limits, num_trials: int = 1500) -> float:
    """How far the last 300 proposals of TPE are below the maximum on average, of a quadratic function of six
    dimensions, where it sees the part `seen` of the trials."""
    space = space_of(num_trials, seed=seed)
    shortfalls = []
    with patch.dict(SEEN, {"tpe": seen}):
        sampler = TrialSampler(space, {})
    for _ in range(num_trials):
        proposal = sampler.propose()
        squares = [(_in_unit(space, key, value) - 0.7) ** 2 for key, value in proposal.params.items()]
        shortfalls.append(statistics.fmean(squares))
        folds = [FoldResult(fold, 1 - shortfalls[-1], duration_s=0.0) for fold in (1, 2, 3)]
        sampler.tell(TrialRecord(proposal.number, proposal.params, 0.0, state="complete", folds=folds))
    return statistics.fmean(shortfalls[-300:])


def _in_unit(space: SearchExperiment, key: str, value: float) -> float:
    match space.dimensions[key]:
        case LogUniform(log_uniform=(low, high)):
            return math.log(value / low) / math.log(high / low)
        case Uniform(uniform=(low, high)):
            return (value - low) / (high - low)
        case other:
            raise TypeError(f"a dimension that is continuous, got {other}")


def show(title: str, course: Course, block: int) -> None:
    """Prints a line a block."""
    for number, (cpu_s, sync_s, mib) in enumerate(zip(*course, strict=True)):
        trials = f"trials {number * block}-{(number + 1) * block}"
        syncs = f" and {1000 * sync_s:.2f} ms of syncs" if sync_s else ""
        print(f"{title}, {trials}: {1000 * cpu_s:.2f} ms of driver CPU{syncs} a trial, {mib:.0f} MiB", flush=True)


def simulate(
    num_trials: int, places: int, block: int, directory: Path, profile: cProfile.Profile | None = None
) -> Course:
    """Runs a search whose folds take a random time of a simulated clock, `places` trials at once."""
    space = space_of(num_trials)
    course, syncs = Course([], [], []), SyncClock()
    draw = random.Random("durations")
    busy: list[tuple[float, int, Assignment, int]] = []  # when the fold ends, a number that breaks ties, and its place
    order, now_s, num_ended = 0, 0.0, 0
    with (
        closing(open_search_journal(RunDirectory(directory))) as journal,
        (directory / "screen.txt").open("w") as screen,
        SearchProgress(Console(file=screen), space, num_trials, places) as progress,
        patch.object(os, "fsync", syncs),
    ):
        journal.listeners.append(progress)
        journal.append(search_started(space, journal.directory))
        scheduler = TrialScheduler(space, journal)
        if profile is not None:
            profile.enable()
        started_s = time.process_time()
        while not scheduler.done:
            while len(busy) < places and (assignment := scheduler.next_assignment(places)) is not None:
                order += 1
                heapq.heappush(busy, (now_s + draw.uniform(0.5, 1.5), order, assignment, 0))
            now_s, _, assignment, index = heapq.heappop(busy)
            result = fold_result(assignment.folds[index], assignment.config.method.alpha)
            if scheduler.fold_finished(assignment.number, result) is Decision.CONTINUE:
                order += 1
                heapq.heappush(busy, (now_s + draw.uniform(0.5, 1.5), order, assignment, index + 1))
            elif (num_ended := num_ended + 1) % block == 0:
                course.cpu_s.append((time.process_time() - started_s) / block)
                course.sync_s.append(syncs.total_s / block)
                gc.collect()
                course.resident_mib.append(kib("Rss") / 1024)
                started_s, syncs.total_s = time.process_time(), 0.0
        if profile is not None:
            profile.disable()
        assert len(journal.history.ended_trials) == num_trials
    return course


if __name__ == "__main__":
    raise SystemExit(main())
