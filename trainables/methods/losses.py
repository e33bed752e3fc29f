"""Losses between the outputs of a network and their targets, in the forms that the papers and their codes use.

All are computed in full precision, also inside autocast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.types import num_positions

REFERENCE_BATCH_SIZE = 48
"""Batch of the SMILE paper's trainings on images."""
REFERENCE_POSITIONS = 7 * 7
"""Positions of the feature map in them: 224 px, of which the backbones keep every 32nd in each direction."""


def full_precision(x: Tensor) -> Tensor:
    """Converts half-precision tensors to fp32; fp32 and fp64 tensors are returned unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Converts labels N to one-hot rows N×K in the default dtype."""
    return F.one_hot(labels, num_classes).to(torch.get_default_dtype())


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of −Σ target·log softmax(logits); `target` is labels N or probabilities N×K.

    Cross-entropy is linear in its target: with a blended one-hot target it equals λ·CE(y) + (1−λ)·CE(y[partner]).

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> torch.equal(cross_entropy(logits, labels), cross_entropy(logits, one_hot(labels, num_classes=2)))
    True
    """
    logits = full_precision(logits)
    return F.cross_entropy(logits, target.to(logits.dtype) if target.is_floating_point() else target)


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of the rows N×K, the lower bound of `cross_entropy` with them as target."""
    of_rows: Tensor = torch.special.entr(probabilities).sum(dim=1)
    return of_rows.mean()


def frobenius_per_position(output: Tensor, target: Tensor) -> Tensor:
    """‖output − target‖_F over the whole batch, not squared, divided by H·W (the SMILE authors' code).

    `output` and `target` are feature maps of one shape (see `num_positions`).

    Its gradient has norm 1/(H·W) whatever the error and N; its value grows with √N.
    """
    difference = full_precision(output) - full_precision(target)
    norm: Tensor = torch.linalg.vector_norm(difference)
    return norm / num_positions(output)


def frobenius_scale(features: Tensor) -> float:
    """Factor √(48/N)·√(H·W/49) that gives `frobenius_per_position` of maps like `features` one strength at every size.

    The gradient of a mean cross-entropy at a feature map falls as 1/√(N·H·W), the distance's as 1/(H·W): beside the
    cross-entropy, it weighs √(N/(H·W)) times a constant. With the factor it weighs what it does for the batch of 48 and
    the map of 7×7 positions of the paper, where the factor is exactly 1.

    >>> frobenius_scale(torch.empty(48, 1280, 7, 7)), frobenius_scale(torch.empty(12, 384))
    (1.0, 0.2857142857142857)
    """
    batch_size = len(features)
    return math.sqrt(REFERENCE_BATCH_SIZE / batch_size) * math.sqrt(num_positions(features) / REFERENCE_POSITIONS)


def mean_squared_norm(output: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of the squared Euclidean distance of rows N×… (SMILE, Eq. 4 and 5)."""
    return (full_precision(output) - full_precision(target)).pow(2).flatten(1).sum(dim=1).mean()
