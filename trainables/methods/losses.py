"""Distances between what a student and a teacher say, in the forms that the papers and their codes use.

All are computed in full precision whatever autocast did before.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.types import num_positions


def full_precision(x: Tensor) -> Tensor:
    """fp32 for half-precision tensors; fp32 and fp64 stay as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Labels N → rows N×K of 0 and 1."""
    return F.one_hot(labels, num_classes).to(torch.get_default_dtype())


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of −Σ target·log softmax(logits); `target` is labels N or probabilities N×K.

    Cross-entropy is linear in its target, so with a blended one-hot target this *is* λ·CE(y) + (1−λ)·CE(y[partner]).
    """
    logits = full_precision(logits)
    return F.cross_entropy(logits, target.to(logits.dtype) if target.is_floating_point() else target)


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of the rows: the least value that `cross_entropy` can take against them."""
    of_rows: Tensor = torch.special.entr(probabilities).sum(dim=1)
    return of_rows.mean()


def frobenius_per_position(seen: Tensor, wanted: Tensor) -> Tensor:
    """‖seen − wanted‖_F over the whole batch, not squared, divided by the positions of a map (SMILE's code).

    Its gradient has norm 1/(H·W) whatever the error; its value grows with √N.
    """
    difference = full_precision(seen) - full_precision(wanted)
    norm: Tensor = torch.linalg.vector_norm(difference)
    return norm / num_positions(seen)


def mean_squared_norm(seen: Tensor, wanted: Tensor) -> Tensor:
    """Mean over the batch of the squared Euclidean distance of rows (SMILE's Eq. 4 and 5)."""
    return (full_precision(seen) - full_precision(wanted)).pow(2).flatten(1).sum(dim=1).mean()
