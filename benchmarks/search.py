"""What the service itself costs, in trials that train nothing: `make bench-search`.

The same number of trials with the same number of reports goes through a search (scheduler, journal, TPE, display,
MLflow in sqlite) and through bare Ray Tune (random search, no callbacks, reused actors), in one process on one cluster;
half of the bare trials run before the search's and half after, so that a machine that is busier for a while slows both.
A second reference is Ray Tune's OptunaSearch with the same sampler. Ends with one line a figure: `figure value limit
ok|short`.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from optuna.distributions import BaseDistribution, FloatDistribution
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console

from benchmarks.figures import Figure, report
from benchmarks.memory import kib
from trainables.results import FoldResult
from tuner.cli.console import output_redirected_to
from tuner.cli.search_progress import SearchProgress
from tuner.cluster import trainable
from tuner.cluster import tune as trials
from tuner.cluster.connection import cluster
from tuner.cluster.probes import ProbesByKey
from tuner.cluster.trainable import ImagesByKey
from tuner.execution.run_context import synced
from tuner.execution.run_search import search_started
from tuner.experiment.checks import load_images
from tuner.experiment.search_experiment import SearchExperiment, parse_experiment
from tuner.record.directory import RunDirectory
from tuner.record.events import Event, Params, TrialEnded
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.journal import open_search_journal
from tuner.resources.share import Share
from tuner.scheduling.sampler import TrialSampler, build_sampler
from tuner.scheduling.scheduler import TrialScheduler
from tuner.tracking.store import prepare_store

OVERHEAD_LIMIT = 1.5
FLATNESS_LIMIT = 1.2
MEMORY_LIMIT_MIB = 50.0
PROPOSAL_LIMIT_MS = 100.0
BEHIND_LIMIT_S = 5.0

WARM_UP = 20
"""Trials until the workers are up; they count for nothing."""
BLOCK = 100
FOLDS = 3


@dataclass
class Course:
    """When trials ended (`time.monotonic()`), the CPU time that the driver had used, and its resident memory in MiB."""

    ended_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    resident_mib: list[float] = field(default_factory=list)

    def note(self) -> None:
        """A trial has ended."""
        self.ended_s.append(time.monotonic())
        self.cpu_s.append(time.process_time())
        if len(self.ended_s) % BLOCK == 0:
            gc.collect()
            self.resident_mib.append(kib("Rss") / 1024)

    def cost_s(self, first: int, last: int) -> float:
        """Mean seconds a trial from the end of trial `first` to that of trial `last`, counted from 0."""
        return (self.ended_s[last] - self.ended_s[first]) / (last - first)

    def cpu_cost_s(self, first: int, last: int) -> float:
        """The same in the driver's CPU time."""
        return (self.cpu_s[last] - self.cpu_s[first]) / (last - first)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=2)
    arguments = parser.parse_args(argv)
    num_trials, last = arguments.trials, arguments.trials - 1
    block = min(BLOCK, (num_trials - WARM_UP) // 2)
    space = space_of(num_trials)
    with (
        tempfile.TemporaryDirectory(prefix="bench-search-") as folder,
        output_redirected_to(Path(folder) / "chatter.log"),
        cluster(None),
    ):
        share = Share(1, 0, arguments.concurrency, limit=arguments.concurrency)
        before = bare(num_trials // 2, share, Path(folder) / "before")
        course, behind_s = searched(space, share, Path(folder) / "searched")
        after = bare(num_trials // 2, share, Path(folder) / "after")
        with_tpe = bare(num_trials, share, Path(folder) / "with_tpe", with_tpe=True)
    half = num_trials // 2 - 1
    bare_s = statistics.fmean(part.cost_s(WARM_UP, half) for part in (before, after))
    bare_cpu_s = statistics.fmean(part.cpu_cost_s(WARM_UP, half) for part in (before, after))
    print(f"a trial {course.cost_s(WARM_UP, last):.4f} s ({course.cpu_cost_s(WARM_UP, last):.4f} s of driver CPU)")
    print(f"a bare trial {bare_s:.4f} s ({bare_cpu_s:.4f} s of driver CPU)")
    tpe_s = with_tpe.cost_s(WARM_UP, last)
    print(f"a bare trial with TPE {tpe_s:.4f} s ({with_tpe.cpu_cost_s(WARM_UP, last):.4f} s of driver CPU)")
    for start in range(WARM_UP, last - block + 1, block):
        end = start + block
        cost, cpu, tpe_cpu = course.cost_s(start, end), course.cpu_cost_s(start, end), with_tpe.cpu_cost_s(start, end)
        print(f"trials {start}-{end}: {cost:.4f} s, {cpu:.4f} s of driver CPU; bare with TPE {tpe_cpu:.4f} s of it")
    for whose, each in (("search", course), ("bare with TPE", with_tpe)):
        print(f"memory, MiB, every hundred trials, {whose}:", *(f"{value:.0f}" for value in each.resident_mib))
    proposals_ms = proposal_times_ms(space, num_trials)
    first_cpu_s, last_cpu_s = (course.cpu_cost_s(start, start + block) for start in (WARM_UP, last - block))
    first_s, last_s = (course.cost_s(start, start + block) for start in (WARM_UP, last - block))
    figures = [
        ("overhead_ratio", course.cost_s(WARM_UP, last) / bare_s, OVERHEAD_LIMIT),
        ("overhead_ratio_to_tune_with_tpe", course.cost_s(WARM_UP, last) / tpe_s, OVERHEAD_LIMIT),
        ("last_over_first_hundred", last_s / first_s, FLATNESS_LIMIT),
        ("last_over_first_hundred_driver_cpu", last_cpu_s / first_cpu_s, FLATNESS_LIMIT),
        ("memory_growth_mib", memory_growth_mib(course), MEMORY_LIMIT_MIB),
        ("proposal_p50_ms", statistics.median(proposals_ms), PROPOSAL_LIMIT_MS),
        ("proposal_p95_ms", statistics.quantiles(proposals_ms, n=20)[-1], PROPOSAL_LIMIT_MS),
        ("mlflow_behind_s", behind_s, BEHIND_LIMIT_S),
    ]
    return report(Figure(*figure) for figure in figures)


def space_of(num_trials: int, sampler: str = "tpe", seed: int = 0) -> SearchExperiment:
    """SMILE's four dimensions and two more. The racing compares every fold, and stops nothing."""
    tree: dict[str, Any] = {
        "name": "bench",
        "data": {"dataset": "digits", "train_images": 30, "test_images": 20, "size_px": 32, "flip": False},
        "backbone": {"name": "package/efficientnet_lite0"},
        "method": {
            "name": "smile",
            "gamma_fe": {"log_uniform": [0.01, 0.1]},
            "gamma_fc": {"log_uniform": [0.01, 0.1]},
            "alpha": {"log_uniform": [0.1, 1.0]},
            "ema_decay": {"uniform": [0.99, 0.9999]},
        },
        "training": {
            "num_steps": 80,
            "batch_size": 8,
            "learning_rate": {"log_uniform": [0.001, 0.1]},
            "weight_decay": {"log_uniform": [0.00001, 0.01]},
        },
        "search": {
            "trials": num_trials,
            "folds": FOLDS,
            "repeats": 1,
            "baselines": [],
            "sampler": sampler,
            "seed": seed,
            "racing": {"rule": "folds", "margin": 8.0},
        },
    }
    return parse_experiment(tree, "bench.yaml")


def searched(space: SearchExperiment, share: Share, directory: Path) -> tuple[Course, float]:
    """The search's trials, and how long MLflow took to be in line after the last."""
    uri = f"sqlite:///{directory / 'mlflow.db'}"
    prepare_store(uri, space.name)
    course = Course()
    with (
        closing(open_search_journal(RunDirectory(directory / "run"))) as journal,
        synced(journal, uri, space.name) as sync,
        (directory / "screen.txt").open("w") as screen,
        SearchProgress(Console(file=screen), space, space.search.trials, share.concurrency) as progress,
        patch.object(trials, "FoldTrainable", Idle),
    ):
        journal.listeners.append(progress)

        def note(event: Event, history: SearchHistory) -> None:
            if isinstance(event, TrialEnded):
                course.note()

        journal.listeners.append(note)
        journal.append(search_started(space, journal.directory))
        trials.run_trials(TrialScheduler(space, journal), load_images(space), share)
        ended_s = time.monotonic()
        assert sync.flush(600)
        assert journal.history.count("complete") == space.search.trials
        return course, time.monotonic() - ended_s


class Idle(trainable.FoldTrainable):
    """Everything about a trial but its training."""

    def setup(  # type: ignore[override]  # as in FoldTrainable
        self, config: dict[str, Any], images: ImagesByKey, probes: ProbesByKey
    ) -> None:
        vars(trainable)["FoldTraining"] = NoTraining  # in the worker, which has a module of its own
        super().setup(config, images, probes)


class NoTraining:
    """A fold that is over at once: a score by configuration and fold, and curves as of a short training."""

    step = 0
    predictions = None

    def __init__(self, config: Any, images: Any, number: int, *_: Any) -> None:
        self._config = config
        self._number = number

    def result(self) -> FoldResult:
        return fold_result(self._number, self._config.method.alpha)


def fold_result(fold: int, alpha: float) -> FoldResult:
    """The result of a fold that trained nothing: a score by configuration and fold, and curves as of a short one."""
    steps = list(range(10, 90, 10))
    curves = {"target_label": [1 / step for step in steps]}
    noise = random.Random(f"{fold} {alpha}").gauss(0.0, 0.05)
    return FoldResult(fold, alpha / 2 + noise, 0.0, steps, curves)


def bare(num_trials: int, share: Share, directory: Path, with_tpe: bool = False) -> Course:
    """Ray Tune's trials: random search, or its OptunaSearch with our sampler."""
    course = Course()
    names = [f"x{k}" for k in range(6)]
    search_alg = None
    if with_tpe:
        space: dict[str, BaseDistribution] = {name: FloatDistribution(0.01, 1.0, log=True) for name in names}
        sampler = build_sampler("tpe", num_trials, 0)
        search_alg = OptunaSearch(space, metric="val_top1", mode="max", sampler=sampler)
    tune.Tuner(
        tune.with_resources(Bare, {"cpu": share.cpus}),
        param_space=None if with_tpe else {name: tune.loguniform(0.01, 1.0) for name in names},
        tune_config=tune.TuneConfig(
            search_alg=search_alg,
            num_samples=num_trials,
            max_concurrent_trials=share.concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="bare",
            storage_path=str(directory),
            stop={"training_iteration": FOLDS},
            callbacks=[Noting(course)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(fail_fast=True),
            verbose=0,
        ),
    ).fit()
    return course


class Bare(tune.Trainable):
    """Reports and does nothing."""

    def step(self) -> dict[str, Any]:
        return {"val_top1": 0.5}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True


class Noting(tune.Callback):
    """Notes when trials end: the only callback."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._course.note()


def memory_growth_mib(course: Course) -> float:
    """From the second hundred trials to the last; a short run has no such."""
    return course.resident_mib[-1] - course.resident_mib[1] if len(course.resident_mib) > 2 else 0.0


def proposal_times_ms(space: SearchExperiment, num_known: int, num_timed: int = 50) -> list[float]:
    """Of the sampler, when so many trials are known; each proposal is told before the next.

    In CPU time: a proposal waits for nothing, and other work on the machine does not count.
    """
    at_random = TrialSampler(space_of(num_known, "random"), {})
    known = {}
    for number in range(num_known):
        known[number] = _complete_trial(number, at_random.propose().params)
    sampler = TrialSampler(space, known)
    times_ms = []
    for _ in range(num_timed):
        started_s = time.process_time()
        proposal = sampler.propose()
        times_ms.append(1000 * (time.process_time() - started_s))
        sampler.tell(_complete_trial(proposal.number, proposal.params))
    return times_ms


def _complete_trial(number: int, params: Params) -> TrialRecord:
    folds = [FoldResult(fold, params["method.alpha"] / 2, duration_s=0.0) for fold in range(1, FOLDS + 1)]
    return TrialRecord(number, params, 0.0, state="complete", folds=folds)


if __name__ == "__main__":
    raise SystemExit(main())
