"""The top-down story of a trial: fold by fold in a search, once over everything in the retraining.

It does not know who is watching: what it has to say goes to one callable, which may raise to stop it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import torch

from trainables.backbones import build_network
from trainables.backbones.network import TransferNetwork
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches, steps_per_epoch, training_batch
from trainables.data.examples import Examples, as_inputs
from trainables.data.folds import Fold, stratified_folds
from trainables.methods import MethodContext, build_method, uses_source_head
from trainables.seeding import seed_for
from trainables.training.evaluation import top1_accuracy
from trainables.training.loop import Fit
from trainables.types import Batch


@dataclass(frozen=True)
class FoldResult:
    """One fold of one trial: `fold` counts from 1, `val_top1` is in [0, 1].

    `loss_terms` holds the curve of each loss term, its mean over the steps up to each of `loss_steps`.
    """

    fold: int
    val_top1: float
    duration_s: float
    loss_steps: list[int] = field(default_factory=list)
    loss_terms: dict[str, list[float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


Report = Callable[[FoldResult], None]
"""Receives each fold as it ends; may raise to stop the trial."""


def cross_validate(
    config: TrialConfig, examples: Examples, num_folds: int, report: Report, device: torch.device | None = None
) -> float:
    """Mean validation top-1 of `config` over folds that all trials of one seed share."""
    accuracies = []
    for number, fold in enumerate(stratified_folds(examples.labels, num_folds, config.seed), start=1):
        result = validate_fold(config, examples, number, fold, device)
        accuracies.append(result.val_top1)
        report(result)
    return fmean(accuracies)


def validate_fold(
    config: TrialConfig, examples: Examples, number: int, fold: Fold, device: torch.device | None = None
) -> FoldResult:
    """Trains on the fold's training part and scores its validation part; `number` counts from 1."""
    device = device or default_device()
    started = time.monotonic()
    fit = start_fit(config, examples.take(fold.train), seed_for(config.seed, "fold", number), device)
    fit.run()
    accuracy = accuracy_on(fit.method.student, examples.take(fold.validation), config, device)
    return FoldResult(number, accuracy, time.monotonic() - started, fit.history.steps, fit.history.terms)


def train_full(
    config: TrialConfig, examples: Examples, device: torch.device | None = None
) -> tuple[TransferNetwork, Fit]:
    """Trains on all of `examples`: what the best configuration is for. Returns the network and its finished fit."""
    fit = start_fit(config, examples, seed_for(config.seed, "full"), device or default_device())
    fit.run()
    return fit.method.student, fit


def start_fit(config: TrialConfig, examples: Examples, seed: int, device: torch.device) -> Fit:
    """A training of `config` on `examples`, prepared and at step 0. `seed` is the root of all its draws."""
    training = config.training
    network = build_network(config.backbone, examples.num_classes, seed, uses_source_head(config.method)).to(device)
    if training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    context = MethodContext(
        seed=seed,
        num_steps=training.num_steps,
        steps_per_epoch=steps_per_epoch(len(examples), training.batch_size),
        num_classes=examples.num_classes,
        num_examples=len(examples),
    )
    method = build_method(config.method, network, context)
    inputs = as_inputs(examples, config.data, network.backbone.tokenizer)
    method.prepare(lambda: evaluation_batches(inputs, config.data, training.eval_batch_size, device))

    def batch_at(step: int) -> Batch:
        return training_batch(inputs, config.data, training.batch_size, seed, step, device, method.num_views)

    return Fit(method, batch_at, training, device)


def accuracy_on(network: TransferNetwork, examples: Examples, config: TrialConfig, device: torch.device) -> float:
    """Top-1 of `network` on `examples` in the evaluation view."""
    inputs = as_inputs(examples, config.data, network.backbone.tokenizer)
    batches = evaluation_batches(inputs, config.data, config.training.eval_batch_size, device)
    return top1_accuracy(network, batches, config.training, device)


def default_device() -> torch.device:
    """The GPU that this process may see, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
