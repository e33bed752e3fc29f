"""What a trial costs beside its training, and what it leaves behind in its worker: `python -m benchmarks.trial`.

Tiny trials of SMILE, each another configuration, run one after the other in one process as in a reused worker, three
folds each. Ends in

    trial_overhead_s         median over the trials after the first, of all three folds: time outside of training steps
                             and of evaluation
    trial_overhead_cpu_s     the same in processor time, which other work on the machine does not lengthen as much
    worker_memory_growth     resident memory after the last trial, over that after the tenth
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.figures import Figure, report
from benchmarks.memory import kib
from trainables.backbones.kept_networks import KeptNetworks
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.loading import load_train, source_key
from trainables.training.loop import Fit
from trainables.trial import FoldTraining
from tuner.cluster.trainable import FoldTrainable, WorkerSettings
from tuner.cluster.worker_reports import FoldDone
from tuner.record.directory import RunDirectory
from tuner.scheduling.assignment import Assignment

FOLDS = 3
Times = NDArray[np.float64]

SETTLED = 10
"""Trials after which a worker's memory is at its level."""


def now_s() -> Times:
    """By the clock, and of this process."""
    return np.array([time.perf_counter(), time.process_time()])


@dataclass
class Stopwatch:
    """Adds up what functions take: seconds by the clock, and of the processor."""

    total_s: Times = field(default_factory=lambda: np.zeros(2))

    @contextmanager
    def on(self, owner: type, name: str) -> Iterator[None]:
        """Within the block, every call of `owner.name` counts."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            started = now_s()
            try:
                return function(*arguments, **named)
            finally:
                self.total_s += now_s() - started

        with patch.object(owner, name, timed):
            yield


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trial")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--steps", type=int, default=2, help="of a fold")
    parser.add_argument("--size-px", type=int, default=32)
    parser.add_argument("--build-anew", action="store_true", help="networks for each fold, as without kept ones")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with profiled(arguments.profile):
        figures = measure(arguments)
    return report(figures)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figures."""
    outside_s, resident_kib = [], []
    with tempfile.TemporaryDirectory() as folder:
        worker = worker_of(config_of(0, arguments))
        worker.kept = None if arguments.build_anew else KeptNetworks()
        settings = WorkerSettings(RunDirectory(Path(folder)), checkpoint_period_s=30, fold_timeout_s=600)
        for number in range(arguments.trials):
            assignment = Assignment(number, config_of(number, arguments), FOLDS, tuple(range(1, FOLDS + 1)))
            outside_s.append(overhead_s(worker, assignment, settings))
            gc.collect()
            resident_kib.append(kib("Rss"))
    overhead, overhead_cpu = np.median(outside_s[1:], axis=0).tolist()
    print(
        f"first trial {outside_s[0][0]:.3f} s; resident MiB {' '.join(f'{k / 1024:.0f}' for k in resident_kib[::10])}"
    )
    settled_kib = resident_kib[min(SETTLED, len(resident_kib)) - 1]
    return [
        Figure("trial_overhead_s", overhead, 0.3),
        Figure("trial_overhead_cpu_s", overhead_cpu, 0.3),
        Figure("worker_memory_growth", resident_kib[-1] / settled_kib, 1.05),
    ]


def overhead_s(worker: FoldTrainable, assignment: Assignment, settings: WorkerSettings) -> Times:
    """Of one trial: all of it, less training and evaluation."""
    apart = Stopwatch()
    with apart.on(Fit, "run"), apart.on(FoldTraining, "_predict"):
        started = now_s()
        worker.reset_config({"assignment": assignment, "settings": settings})
        for _ in range(assignment.num_folds):
            assert isinstance(worker.step()["report"], FoldDone)
        return now_s() - started - apart.total_s


def worker_of(config: TrialConfig) -> FoldTrainable:
    """An actor without Ray, with the images that its trials train on."""
    worker = FoldTrainable.__new__(FoldTrainable)  # `Trainable.__init__` looks for Ray
    worker.images_by_key = {source_key(config.data): load_train(config.data)}
    worker.device = torch.device("cpu")
    gc.freeze()  # as `setup` does, so that a collection after a fold has little to look at
    return worker


def config_of(number: int, arguments: argparse.Namespace) -> TrialConfig:
    """SMILE, another one for each number."""
    return TrialConfig.model_validate(
        {
            "data": DataConfig(
                dataset="digits", train_images=30, test_images=10, size_px=arguments.size_px, flip=False
            ),
            "backbone": {"name": "package/efficientnet_lite0"},
            "method": {"name": "smile", "alpha": 0.1 + number / 1000, "gamma_fe": 0.01 * (number % 5)},
            "training": {"num_steps": arguments.steps, "batch_size": 8, "learning_rate": 1e-4 * (1 + number)},
        }
    )


@contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    """Prints what the block spent its time in."""
    if not wanted:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    pstats.Stats(profile).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    raise SystemExit(main())
