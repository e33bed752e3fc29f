"""Evaluation of a network: probabilities and accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainables.backbones.network import Predictor
from trainables.data.images import Ints
from trainables.training.config import TrainingConfig
from trainables.training.kernels import kernels
from trainables.training.loop import autocast
from trainables.types import Batch

CONSTANT_SPREAD = 1e-5
"""Mean distance in total variation from the mean prediction, below which predictions are called constant. It is about
0.1 with a random head on pre-trained features, whatever the number of classes, and 1e-6 or less after a collapse."""


class Evaluated(NamedTuple):
    """Target-class probabilities N×K, labels N, and pooled features of the rows that were asked for, on the host."""

    probabilities: Tensor
    labels: Tensor
    pooled: Tensor


@torch.inference_mode()
def evaluated(
    network: Predictor, batches: Iterable[Batch], config: TrainingConfig, device: torch.device, rows: Ints | None = None
) -> Evaluated:
    """Predicts the examples of `batches` in their order. `rows` are the positions, in order, of those whose pooled
    features are returned (None: all of them)."""
    network.eval()
    probabilities, labels, pooled, start = [], [], [], 0
    for batch in batches:
        with autocast(config, device), kernels(config, device):
            outputs = network(network.embed(batch.inputs))
        end = start + len(batch.labels)
        own = slice(None) if rows is None else rows[(rows >= start) & (rows < end)] - start
        probabilities.append(outputs.target_logits.float().softmax(dim=1).cpu())
        pooled.append(outputs.pooled[own].float().cpu())
        labels.append(batch.labels.cpu())
        start = end
    return Evaluated(torch.cat(probabilities), torch.cat(labels), torch.cat(pooled))


def predicted_probabilities(
    network: Predictor, batches: Iterable[Batch], config: TrainingConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Target-class probabilities N×K and labels N, on the host, in the order of `batches`."""
    found = evaluated(network, batches, config, device, rows=np.empty(0, dtype=np.int64))
    return found.probabilities, found.labels


def top1_accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in [0, 1]: the share of examples whose most probable class is their label."""
    return float((probabilities.argmax(dim=1) == labels).double().mean())


def is_constant(probabilities: Tensor) -> bool:
    """Whether probabilities N×K are one and the same prediction for all examples, by `CONSTANT_SPREAD`."""
    distances = (probabilities - probabilities.mean(dim=0)).abs().sum(dim=1) / 2
    return bool(distances.mean() < CONSTANT_SPREAD)
