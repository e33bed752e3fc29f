"""Optimiser and learning-rate schedule of the `training` section."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from trainables.methods.base import Method
from trainables.training.config import TrainingConfig


def build_optimizer(config: TrainingConfig, method: Method) -> Optimizer:
    """Optimiser with one group for the backbone, source head and the method's modules, and one for the target head.

    Parameters without gradient (of a teacher or a frozen backbone) are left out. `lr_multiplier` of each group is its
    factor on the learning rate.
    """
    head = list(_trained(method.student.target_head))
    of_head = set(map(id, head))
    body = [p for p in (*_trained(method.student), *method.trainable_parameters()) if id(p) not in of_head]
    groups = [
        {"params": body, "lr_multiplier": 1.0},
        {"params": head, "lr_multiplier": config.head_lr_multiplier},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    return SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        foreach=True,  # a few kernels for all parameters instead of a few for each
    )


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def lr_factor(config: TrainingConfig, step: int) -> float:
    """Factor of the schedule on the learning rate at optimiser step `step` (from 1) of a resolved configuration.

    >>> config = TrainingConfig(num_steps=90, schedule="step", step_drop_at=2 / 3, step_drop_factor=0.1)
    >>> lr_factor(config, step=60), lr_factor(config, step=61)
    (1.0, 0.1)
    """
    progress = (step - 1) / config.resolved_num_steps
    if progress < config.warmup_fraction:
        return step / (config.warmup_fraction * config.resolved_num_steps + 1)
    decayed = (progress - config.warmup_fraction) / (1 - config.warmup_fraction)
    match config.schedule:
        case "step":
            return 1.0 if progress < config.step_drop_at else config.step_drop_factor
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * decayed))
        case "linear":
            return 1 - decayed
        case "constant":
            return 1.0


def set_learning_rate(optimizer: Optimizer, config: TrainingConfig, step: int) -> None:
    """Sets the learning rate of every group for `step`."""
    factor = lr_factor(config, step)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * group["lr_multiplier"] * factor


def gradients_of(optimizer: Optimizer) -> list[torch.Tensor]:
    """All gradients that the next optimiser step uses."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
