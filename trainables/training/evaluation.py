"""Evaluation of a network: probabilities and accuracy."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from trainables.backbones.network import TransferNetwork
from trainables.training.config import TrainingConfig
from trainables.training.loop import autocast
from trainables.types import Batch


@torch.inference_mode()
def predicted_probabilities(
    network: TransferNetwork, batches: Iterable[Batch], config: TrainingConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Target-class probabilities N×K and labels N, on the host, in the order of `batches`."""
    network.eval()
    probabilities, labels = [], []
    for batch in batches:
        with autocast(config, device):
            logits = network(network.embed(batch.inputs)).target_logits
        probabilities.append(logits.float().softmax(dim=1).cpu())
        labels.append(batch.labels.cpu())
    return torch.cat(probabilities), torch.cat(labels)


def top1_accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in [0, 1]: the share of examples whose most probable class is their label."""
    return float((probabilities.argmax(dim=1) == labels).double().mean())


CONSTANT_SPREAD = 1e-3
"""Largest standard deviation of log probabilities over examples that is called constant."""


def is_constant(probabilities: Tensor) -> bool:
    """Whether probabilities N×K are those of one and the same prediction for all examples."""
    log_probabilities = probabilities.double().clamp(min=1e-12).log()
    return bool(log_probabilities.std(dim=0, correction=0).max() < CONSTANT_SPREAD)
