"""What the workers' environment saves (`WORKER_ENVIRONMENT`): `python -m benchmarks.allocator`.

Runs the same few training steps in fresh processes with and without it, in turn, since it is read when a process
starts; prints seconds a step of each pair and the median ratio. With `--add NAME=VALUE` (e.g. huge pages,
GLIBC_TUNABLES=glibc.malloc.hugetlb=1) it compares the environment with that besides to the environment as it is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tuner.resources.worker_environment import WORKER_ENVIRONMENT

STEPS = """
import argparse, torch
from benchmarks.methods import fit, seconds
from trainables.data.config import DataConfig
from trainables.data.loading import load_train
from trainables.methods.l2 import L2
torch.set_num_threads({threads})
data = DataConfig(dataset="digits", train_images=120, test_images=10, size_px={size_px}, flip=False)
training = fit(L2.Config(), data, load_train(data), argparse.Namespace(batch_size={batch_size}))
seconds(training, 2)
print(seconds(training, {steps}) / {steps})
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    arguments = parsed(argv)
    ours, other = WORKER_ENVIRONMENT, {}
    if arguments.add is not None:
        name, _, value = arguments.add.partition("=")
        ours, other = ours | {name: value}, ours
    print(f"median ratio {ratio(arguments, ours, other):.3f}")
    return 0


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.allocator")
    for name, default in (("size-px", 128), ("batch-size", 24), ("steps", 8), ("threads", 1), ("pairs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--add", metavar="NAME=VALUE")
    return parser.parse_args(argv)


def ratio(arguments: argparse.Namespace, ours: Mapping[str, str], other: Mapping[str, str]) -> float:
    """Median over pairs of a step's time with the variables `ours`, over that with `other`; none of either is
    inherited."""
    code = STEPS.format(**vars(arguments))
    inherited = {key: value for key, value in os.environ.items() if key not in {*ours, *other}}
    ratios = []
    for _ in range(arguments.pairs):
        plain, tuned = (seconds_a_step(code, inherited | dict(variables)) for variables in (other, ours))
        ratios.append(tuned / plain)
        print(f"without {plain:.3f} s  with {tuned:.3f} s  ratio {ratios[-1]:.2f}", flush=True)
    return statistics.median(ratios)


def seconds_a_step(code: str, environment: Mapping[str, str]) -> float:
    """Seconds of a step in a fresh process with that environment."""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    raise SystemExit(main())
