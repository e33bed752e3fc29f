"""What a step of each method costs, as a ratio to a step of plain fine-tuning: `make bench-methods`.

Both train the same network on the same batches in the same process, in turn, a few steps each; the ratio is taken
pair by pair and its median reported. Ends with one line a method: `method ratio limit ok|short`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.figures import Figure, paired_ratio, seconds_of
from trainables.backbones.config import BackboneConfig
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.examples import Examples
from trainables.data.loading import load_train
from trainables.methods import METHODS
from trainables.methods.l2 import L2
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit
from trainables.trial import default_device, start_fit

LIMIT = 1.35
LIMITS = {"smile": 1.20}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a method is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods")
    parser.add_argument("--methods", nargs="*", default=[name for name in METHODS if name != "l2"])
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2, help="steps of each in a pair")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    data = DataConfig(dataset="digits", train_images=120, test_images=10, size_px=arguments.size_px, flip=False)
    images = load_train(data)
    figures = []
    for name in arguments.methods:
        ratio = measure(name, data, images, arguments)
        figures.append(Figure(name, ratio, LIMITS.get(name, LIMIT)))
        print(figures[-1], flush=True)
    return int(any(figure.result != "ok" for figure in figures))


def measure(name: str, data: DataConfig, images: Examples, arguments: argparse.Namespace) -> float:
    """Median over pairs of (a few steps of the method) / (as many of plain fine-tuning)."""
    plain = fit(L2.Config(), data, images, arguments)
    other = fit(METHODS[name].Config(name=name), data, images, arguments)
    return in_turn(other, plain, arguments)


def in_turn(this: Fit, other: Fit, arguments: argparse.Namespace) -> float:
    """Time of a few steps of one training over that of as many of the other's, once both are warm."""
    ours, others = (partial(seconds, training, arguments.steps) for training in (this, other))
    for warm_up in (ours, others):
        warm_up()
    return paired_ratio(ours, others, arguments.pairs)


def fit(method: object, data: DataConfig, images: Examples, arguments: argparse.Namespace, **training: Any) -> Fit:
    """A training of EfficientNet-Lite0 at step 0, with a budget that is not used up. `training` overrides settings."""
    config = TrialConfig(
        data=data,
        backbone=BackboneConfig(name="package/efficientnet_lite0"),
        method=method,
        # A rate at which no method diverges, however long this runs; what a step costs does not depend on it.
        training=TrainingConfig(num_steps=9000, batch_size=arguments.batch_size, learning_rate=1e-4, **training),
    )
    return start_fit(config, images, seed=0, device=default_device())


def seconds(training: Fit, num_steps: int) -> float:
    """Wall time of `num_steps` more steps."""
    return seconds_of(lambda: training.run(training.step + num_steps))


if __name__ == "__main__":
    raise SystemExit(main())
