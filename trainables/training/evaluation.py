"""Evaluation of a network: probabilities and accuracy."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from trainables.backbones.network import Predictor
from trainables.training.config import TrainingConfig
from trainables.training.kernels import kernels
from trainables.training.loop import autocast
from trainables.types import Batch

CONSTANT_SPREAD = 1e-5
"""Mean distance in total variation from the mean prediction, below which predictions are called constant. It is about
0.1 with a random head on pre-trained features, whatever the number of classes, and 1e-6 or less after a collapse."""


@torch.inference_mode()
def predicted_probabilities(
    network: Predictor, batches: Iterable[Batch], config: TrainingConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Target-class probabilities N×K and labels N, on the host, in the order of `batches`."""
    network.eval()
    probabilities, labels = [], []
    for batch in batches:
        with autocast(config, device), kernels(config, device):
            logits = network(network.embed(batch.inputs)).target_logits
        probabilities.append(logits.float().softmax(dim=1).cpu())
        labels.append(batch.labels.cpu())
    return torch.cat(probabilities), torch.cat(labels)


def top1_accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in [0, 1]: the share of examples whose most probable class is their label."""
    return float((probabilities.argmax(dim=1) == labels).double().mean())


def is_constant(probabilities: Tensor) -> bool:
    """Whether probabilities N×K are one and the same prediction for all examples, by `CONSTANT_SPREAD`."""
    distances = (probabilities - probabilities.mean(dim=0)).abs().sum(dim=1) / 2
    return bool(distances.mean() < CONSTANT_SPREAD)
