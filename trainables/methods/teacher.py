"""The frozen copy of the pre-trained network that SMILE and others learn from, and how it follows the student."""

from __future__ import annotations

import copy

import torch
from torch import nn

from trainables.backbones.network import TransferNetwork


def frozen_copy(network: TransferNetwork) -> TransferNetwork:
    """A copy in evaluation mode whose parameters take no gradient."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """teacher ← decay·teacher + (1−decay)·student over parameters; buffers (BatchNorm statistics) stay as they are."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - decay)
