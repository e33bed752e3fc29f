"""Focal loss (Lin et al., 2017, https://arxiv.org/abs/1708.02002): a method of fine-tuning in its own package."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeFloat
from torch.nn import functional as F

from trainables.methods.base import Method, MethodConfig
from trainables.methods.losses import full_precision
from trainables.types import Batch, LossTerms


class FocalConfig(MethodConfig):
    """Settings of the focal loss. The default is that of the paper."""

    name: Literal["focal"] = "focal"
    focus: NonNegativeFloat = 2.0
    """γ, the exponent of 1 − p; with 0 the loss is cross-entropy."""


class Focal(Method):
    """Focal loss: cross-entropy in which an example counts less, the better it is classified already.

    The loss is the mean of −(1 − p)^γ · log p over the batch, with the probability p of an example's class.
    """

    Config = FocalConfig
    config: FocalConfig

    def loss(self, batch: Batch) -> LossTerms:
        logits_NK = full_precision(self.student(self.student.embed(batch.inputs)).target_logits)
        log_p_N = -F.cross_entropy(logits_NK, batch.labels, reduction="none")
        weights_N = torch.clamp(1 - log_p_N.exp(), min=0) ** self.config.focus
        return {"focal": -(weights_N * log_p_N).mean()}


METHODS = {"focal": Focal}  # for `--plugin focal.py`; the entry point in pyproject.toml names the class itself
