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


def cutmix(
    student: TransferNetwork, batch: Batch, rows: tuple[int, int], columns: tuple[int, int], pi: Tensor
) -> dict[str, Tensor]:
    """Yun et al. 2019: x̃ = M⊙x + (1 − M)⊙x[π], where M is 0 in the box and 1 outside; λ is the share of ones."""
    x = student.embed(batch.inputs)
    mask = torch.ones(x.shape[2:])
    for i in range(*rows):
        for j in range(*columns):
            mask[i, j] = 0
    x_mixed = torch.stack([mask * x[b] + (1 - mask) * x[partner] for b, partner in enumerate(pi)])
    lam = float(mask.sum()) / mask.numel()
    return {"target_label": mixed_label_loss(student(x_mixed).target_logits, batch, lam, pi)}


def manifold_mixup(
    student: TransferNetwork, batch: Batch, layer: int, lam: float, pi: Tensor, loss: str
) -> dict[str, Tensor]:
    """Verma et al. 2019: f(Mix_λ(g_ℓ(x), g_ℓ(x[π]))), written out for the two stages of `TinyConv`.

    `bce_softmax` is the authors' code's: binary cross-entropy, class by class, of p = softmax(z).
    """
    h = student.embed(batch.inputs)
    for depth, part in enumerate([lambda x: x, student.backbone.stem, student.backbone.stage]):
        h = part(h)
        if depth == layer:
            h = mixed(h, lam, pi)
    z = student.target_head(h.mean(dim=(2, 3)))
    if loss == "cross_entropy":
        return {"target_label": mixed_label_loss(z, batch, lam, pi)}
    y = batch.labels
    of_classes = []
    for b, partner in enumerate(pi):
        for k, p in enumerate(softmax(z[b])):
            t = lam * float(y[b] == k) + (1 - lam) * float(y[partner] == k)
            of_classes.append(-(t * p.log() + (1 - t) * (1 - p).log()))
    return {"target_label": mean(of_classes)}


def l2_sp(student: TransferNetwork, source: TransferNetwork, batch: Batch, include: str) -> dict[str, Tensor]:
    """Li et al. 2018: ½‖w_S − w_S⁰‖² over what the source shares, ½‖w_S̄‖² over the new head."""
    start = dict(source.backbone.named_parameters())
    drifts = [
        ((w - start[name].detach()) ** 2).sum()
        for name, w in student.backbone.named_parameters()
        if include == "all" or name in ("stem.0.weight", "stage.0.weight")
    ]
    head = student.target_head
    return l2(student, batch) | {
        "drift": sum(drifts) / 2,
        "head_decay": ((head.weight**2).sum() + (head.bias**2).sum()) / 2,
    }


def bss(student: TransferNetwork, batch: Batch, k: int) -> dict[str, Tensor]:
    """Chen et al. 2019: Σ_{i=1..k} σ²_{−i}, the k smallest singular values of the matrix of features."""
    seen = student(student.embed(batch.inputs))
    sigma = torch.linalg.svdvals(seen.pooled)
    ce = mean([-log_softmax(seen.target_logits[b])[y] for b, y in enumerate(batch.labels)])
    return {"target_label": ce, "spectrum": (sigma[-k:] ** 2).sum()}


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
