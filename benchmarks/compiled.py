"""What `training.compile` gains, and what it takes: `python -m benchmarks.compiled`.

compiled_over_plain   a step of plain fine-tuning with `torch.compile` over one without, in turn

Printed besides: seconds of a first step, of the first training of a process, of the second one in it, and of the first
one in the next process, which finds code on disk.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch

from benchmarks.contestants import contestant
from benchmarks.figures import Figure, paired_ratio, report
from benchmarks.methods import fit, seconds
from benchmarks.step import data_config
from trainables.data.loading import load_train
from trainables.methods.l2 import L2
from trainables.training.loop import Fit
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

FIRST = 0
"""An order besides numbers of steps: begin anew."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where nothing is gained."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled")
    for name, default in (("size-px", 128), ("batch-size", 24), ("steps", 2), ("pairs", 12), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--mode", choices=["default", "reduce-overhead"], default="default")
    return report(measure(parser.parse_args(argv)))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figure."""
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        environment = WORKER_ENVIRONMENT | {"TORCHINDUCTOR_CACHE_DIR": cache}

        def started(mode: str) -> Callable[[int], float]:
            return stack.enter_context(contestant(trainings, mode, arguments, environment=environment)).seconds

        ours, plain, cached = started(arguments.mode), started("none"), started(arguments.mode)
        without = [plain(FIRST), plain(FIRST)]
        takes = {"first": ours(FIRST), "second": ours(FIRST), "next process": cached(FIRST)}
        print(", ".join(f"{name} {took_s:.1f} s" for name, took_s in takes.items()), flush=True)
        print(f"without: first {without[0]:.1f} s, second {without[1]:.1f} s", flush=True)
        for each in (ours, plain):
            each(arguments.steps)
        ratio = paired_ratio(lambda: ours(arguments.steps), lambda: plain(arguments.steps), arguments.pairs)
    return [Figure("compiled_over_plain", ratio, 1.0)]


def trainings(mode: str, arguments: argparse.Namespace) -> Callable[[int], float]:
    """Steps of a training, in a process of its own; told `FIRST`, it begins a new one, and does its first step."""
    torch.set_num_threads(arguments.threads)
    data = data_config(arguments)
    images = load_train(data)
    current: list[Fit] = []

    def work(steps: int) -> float:
        if steps == FIRST:
            current[:] = [fit(L2.Config(), data, images, arguments, compile=mode)]
        return seconds(current[0], steps or 1)

    return work


if __name__ == "__main__":
    raise SystemExit(main())
