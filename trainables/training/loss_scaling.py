"""Loss scaling for trainings in fp16, in which small gradients would be rounded to zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainables.precision import ComputedPrecision


class LossScaling:
    """Backward passes and optimiser steps of a training: with a scaled loss in fp16, as they are in other precisions.

    A step whose gradients overflow is skipped, and halves the scale; 2,000 steps without one double it (PyTorch's
    GradScaler, which reads one flag a step from the device).
    """

    def __init__(self, precision: ComputedPrecision, device: torch.device) -> None:
        self.is_on = precision == "fp16"
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.is_on)
        self._num_skipped = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def num_skipped(self) -> int:
        """Number of steps that were skipped so far."""
        return int(self._num_skipped) if self.is_on else 0

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Computes the gradients of `loss`, which are not scaled any more when it returns."""
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.unscale_(optimizer)

    def judged(self, norms: Tensor) -> Tensor:
        """Norms of the gradients, for the check that they are finite: zeros for a step that is skipped.

        Where the scale has fallen below 1, they overflow by themselves, and are returned as they are.
        """
        if not self.is_on:
            return norms
        self._num_skipped += norms.sum().isfinite().logical_not()
        scale = self._scaler.scale(norms.new_ones(()))
        return torch.where(scale < 1, norms, torch.zeros_like(norms))

    def step(self, optimizer: Optimizer) -> None:
        """Updates the weights, unless a gradient is not finite, and then the scale."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The state that later steps depend on; empty in other precisions than fp16."""
        return {"scaler": self._scaler.state_dict(), "num_skipped": self.num_skipped} if self.is_on else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        if self.is_on:
            self._scaler.load_state_dict(state["scaler"])
            self._num_skipped.fill_(state["num_skipped"])
