"""Target loss of the `training` section: class weights and label smoothing, for a set of training examples."""

from __future__ import annotations

import torch

from trainables.data.images import Ints
from trainables.methods.losses import TargetLoss, balanced_class_weights
from trainables.training.config import TrainingConfig


def target_loss_of(config: TrainingConfig, labels_N: Ints, num_classes: int, device: torch.device) -> TargetLoss:
    """Returns the loss of `config` for a training on examples with `labels_N`, its weights on `device`."""
    weights_K = None
    if config.class_weights == "balanced":
        weights_K = balanced_class_weights(torch.tensor(labels_N, dtype=torch.long), num_classes).to(device)
    return TargetLoss(weights_K, config.label_smoothing)
