"""The papers' equations written out as literally as possible: example by example, no library losses.

Each takes networks and a batch, and gives the terms of the loss without their weights. `lam` is λ and `pi` the
permutation, so that example b is blended with example pi[b].
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.backbones.network import TransferNetwork
from trainables.types import Batch


def l2(student: TransferNetwork, batch: Batch) -> dict[str, Tensor]:
    """Plain fine-tuning: mean over the batch of −log p(y | x)."""
    z = student(student.embed(batch.inputs)).target_logits
    return {"target_label": mean([-log_softmax(z[b])[y] for b, y in enumerate(batch.labels)])}


def mixup(student: TransferNetwork, batch: Batch, lam: float, pi: Tensor) -> dict[str, Tensor]:
    """Zhang et al. 2018: λ·CE(f(x̃), y) + (1 − λ)·CE(f(x̃), y[π]), x̃ = λx + (1 − λ)x[π]."""
    return {
        "target_label": mixed_label_loss(
            student(mixed(student.embed(batch.inputs), lam, pi)).target_logits, batch, lam, pi
        )
    }


def smile_authors(
    student: TransferNetwork, teacher: TransferNetwork, batch: Batch, lam: float, pi: Tensor
) -> dict[str, Tensor]:
    """SMILE as its authors' code computes it: a Frobenius norm over the batch's maps, and soft cross-entropy."""
    seen, taught = student(mixed(student.embed(batch.inputs), lam, pi)), teacher(teacher.embed(batch.inputs))
    _, _, height, width = seen.features.shape
    squares = []
    for b, partner in enumerate(pi):
        wanted = lam * taught.features[b] + (1 - lam) * taught.features[partner]
        squares.append(((seen.features[b] - wanted) ** 2).sum())
    q = [softmax(z) for z in taught.source_logits]
    soft = []
    for b, partner in enumerate(pi):
        q_mixed = lam * q[b] + (1 - lam) * q[partner]
        soft.append(-(q_mixed * log_softmax(seen.source_logits[b])).sum())
    return {
        "target_label": mixed_label_loss(seen.target_logits, batch, lam, pi),
        "feature": torch.stack(squares).sum().sqrt() / (height * width),
        "source_label": mean(soft),
    }


def smile_paper(
    student: TransferNetwork, teacher: TransferNetwork, batch: Batch, lam: float, pi: Tensor
) -> dict[str, Tensor]:
    """SMILE as printed: Eq. 3 for target labels, Eq. 4 for feature vectors, Eq. 5 for source-class probabilities."""
    seen, taught = student(mixed(student.embed(batch.inputs), lam, pi)), teacher(teacher.embed(batch.inputs))
    features, classes = [], []
    for b, partner in enumerate(pi):
        g_mixed = lam * taught.pooled[b] + (1 - lam) * taught.pooled[partner]
        features.append(((g_mixed - seen.pooled[b]) ** 2).sum())
        z_mixed = lam * softmax(taught.source_logits[b]) + (1 - lam) * softmax(taught.source_logits[partner])
        classes.append(((z_mixed - softmax(seen.source_logits[b])) ** 2).sum())
    return {
        "target_label": mixed_label_loss(seen.target_logits, batch, lam, pi),
        "feature": mean(features),
        "source_label": mean(classes),
    }


def mixed_label_loss(z: Tensor, batch: Batch, lam: float, pi: Tensor) -> Tensor:
    """λ·CE(z, y) + (1 − λ)·CE(z, y[π]), with hard labels."""
    y = batch.labels
    return mean([-(lam * log_softmax(z[b])[y[b]] + (1 - lam) * log_softmax(z[b])[y[i]]) for b, i in enumerate(pi)])


def mixed(x: Tensor, lam: float, pi: Tensor) -> Tensor:
    """Row b: λ·x[b] + (1 − λ)·x[π(b)]."""
    return torch.stack([lam * x[b] + (1 - lam) * x[partner] for b, partner in enumerate(pi)])


def softmax(z: Tensor) -> Tensor:
    """Of one row."""
    return z.exp() / z.exp().sum()


def log_softmax(z: Tensor) -> Tensor:
    """Of one row."""
    return softmax(z).log()


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum() / len(values)
