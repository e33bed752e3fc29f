"""Optimiser and learning-rate schedule of the `training` section."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from trainables.methods.base import Method
from trainables.step_values import StepValues
from trainables.training.config import TrainingConfig


def build_optimizer(config: TrainingConfig, method: Method, recordable: bool = False) -> Optimizer:
    """Optimiser with one group for the backbone, source head and the method's modules, and one for the target head.

    Parameters without gradient (of a teacher or a frozen backbone) are left out. `lr_multiplier` of each group is its
    factor on the learning rate. With `recordable`, its step can be recorded (`trainables.training.graph`): learning
    rates are tensors, and all parameters are updated in one kernel, which rounds differently.
    """
    head = list(_trained(method.student.target_head))
    of_head = set(map(id, head))
    body = [p for p in (*_trained(method.student), *method.trainable_parameters()) if id(p) not in of_head]
    groups = [
        {"params": body, "lr_multiplier": 1.0},
        {"params": head, "lr_multiplier": config.head_lr_multiplier},
    ]
    groups = [group for group in groups if group["params"]]
    if recordable:
        return _with_rates_on_device(_recordable_optimizer(config, groups))
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


def _recordable_optimizer(config: TrainingConfig, groups: list[dict[str, Any]]) -> Optimizer:
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True, capturable=True)
    momentum, nesterov = config.momentum, config.nesterov
    return SGD(groups, config.learning_rate, momentum, 0, config.weight_decay, nesterov, fused=True)


def _with_rates_on_device(optimizer: Optimizer) -> Optimizer:
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=group["params"][0].device)
    return optimizer


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restores the state of an optimiser; learning rates stay where they were, on the host or on the device."""
    has_rates_on_device = isinstance(optimizer.param_groups[0]["lr"], Tensor)
    optimizer.load_state_dict(state)
    if has_rates_on_device:
        _with_rates_on_device(optimizer)


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


def set_learning_rate(
    optimizer: Optimizer, config: TrainingConfig, step: int, values: StepValues | None = None
) -> None:
    """Sets the learning rate of every group for `step`; with `values`, for any step that is recorded with it."""
    for group in optimizer.param_groups:
        rate_at = partial(_rate, config, group["lr_multiplier"])
        if values is not None:
            group["lr"].copy_(values.tensor(rate_at))
        elif isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate_at(step))
        else:
            group["lr"] = rate_at(step)


def _rate(config: TrainingConfig, multiplier: float, step: int) -> float:
    return config.learning_rate * multiplier * lr_factor(config, step)


def gradients_of(optimizer: Optimizer) -> list[torch.Tensor]:
    """All gradients that the next optimiser step uses."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
