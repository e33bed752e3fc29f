"""The papers' equations written out as literally as possible: example by example, no library losses.

Each takes networks and a batch, and gives the terms of the loss without their weights. `lam` is λ and `pi` the
permutation, so that example b is blended with example pi[b].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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
    out = student(student.embed(batch.inputs))
    sigma = torch.linalg.svdvals(out.pooled)
    ce = mean([-log_softmax(out.target_logits[b])[y] for b, y in enumerate(batch.labels)])
    return {"target_label": ce, "spectrum": (sigma[-k:] ** 2).sum()}


def stoch_norm(student: TransferNetwork, batch: Batch, coins: list[list[bool]]) -> dict[str, Tensor]:
    """Kou et al. 2020, on the tiny network: `coins` are the masks of each layer's channels normalised by the batch."""
    x = student.embed(batch.inputs)
    for (convolution, norm, relu), of_layer in zip((student.backbone.stem, student.backbone.stage), coins, strict=True):
        x = relu(stochastic_normalisation(convolution(x), norm, of_layer))
    z = student.target_head(x.sum(dim=(2, 3)) / (x.shape[2] * x.shape[3]))
    return {"target_label": mean([-log_softmax(z[b])[y] for b, y in enumerate(batch.labels)])}


def stochastic_normalisation(x: Tensor, norm: nn.BatchNorm2d, coins: list[bool]) -> Tensor:
    """Channel c: γ(x − μ)/√(σ² + ε) + β, where μ and σ² are the batch's (heads) or the running ones (tails)."""
    channels = []
    for c, heads in enumerate(coins):
        mu, variance = norm.running_mean[c].item(), norm.running_var[c].item()
        if heads:
            mu = x[:, c].sum() / x[:, c].numel()
            variance = ((x[:, c] - mu) ** 2).sum() / x[:, c].numel()
        channels.append(norm.weight[c] * (x[:, c] - mu) / (variance + norm.eps) ** 0.5 + norm.bias[c])
    return torch.stack(channels, dim=1)


class KeyQueues:
    """Bi-Tuning's memory as lists: for each class its K_q latest keys, in a ring."""

    def __init__(self, keys_KLD: Tensor) -> None:
        self.keys = [list(of_class) for of_class in keys_KLD.clone()]
        self.oldest = [0] * len(self.keys)

    def enqueue(self, key: Tensor, label: int) -> None:
        self.keys[label][self.oldest[label]] = key
        self.oldest[label] = (self.oldest[label] + 1) % len(self.keys[label])


def bi_tuning(
    student: TransferNetwork,
    projector: nn.Module,
    key_network: tuple[nn.Module, nn.Module],
    features: KeyQueues,
    projections: KeyQueues,
    batch: Batch,
    temperature: float,
) -> dict[str, Tensor]:
    """Zhong et al. 2020 as TLlib computes it, with a key network that has been brought up to date."""
    out = student(student.embed(batch.inputs))
    pooled = key_network[0](student.embed(batch.second_inputs))[1].detach()
    h_q, h_k = ([unit(torch.cat([h, torch.ones(1)])) for h in of_view] for of_view in (out.pooled, pooled))
    z_q = [unit(projector(h)) for h in out.pooled]
    z_k = [unit(key_network[1](h)).detach() for h in pooled]
    w = [
        unit(torch.cat([row, bias[None]])).detach()
        for row, bias in zip(student.target_head.weight, student.target_head.bias, strict=True)
    ]
    labels = batch.labels.tolist()

    over_projections = []
    for b, label in enumerate(labels):
        own = [z_q[b] @ key for key in projections.keys[label]]
        others = [z_q[b] @ key for c, keys in enumerate(projections.keys) if c != label for key in keys]
        over_projections.append(gap_to_uniform([z_q[b] @ z_k[b], *own], others, temperature))
    for b, label in enumerate(labels):
        projections.enqueue(z_k[b], label)
        features.enqueue(h_k[b], label)
    over_classes = []
    for b, label in enumerate(labels):
        own = [key @ w[label] for key in features.keys[label]]
        others = [key @ w[label] for c, keys in enumerate(features.keys) if c != label for key in keys]
        over_classes.append(gap_to_uniform([h_q[b] @ w[label], *own], others, temperature))
    return {
        "target_label": mean([-log_softmax(out.target_logits[b])[y] for b, y in enumerate(labels)]),
        "projection": mean(over_projections),
        "classifier": mean(over_classes),
    }


def gap_to_uniform(own: list[Tensor], others: list[Tensor], temperature: float) -> Tensor:
    """KL(t ‖ softmax) where t is uniform over `own` and zero for `others`."""
    log_p = log_softmax(torch.stack([*own, *others]) / temperature)
    t = 1 / len(own)
    return torch.stack([t * (math.log(t) - log_p[i]) for i in range(len(own))]).sum()


def reg_sl_reweighted(student: TransferNetwork, batch: Batch, tau: float) -> dict[str, Tensor]:
    """Li and Zhang 2021: Σ_b w_b·ℓ_b, w_b = exp(−ℓ_b/τ) / Σ_j exp(−ℓ_j/τ), without a gradient through w."""
    z = student(student.embed(batch.inputs)).target_logits
    losses = [-log_softmax(z[b])[y] for b, y in enumerate(batch.labels)]
    raw = [math.exp(-loss.item() / tau) for loss in losses]
    return {"target_label": torch.stack([r / sum(raw) * loss for r, loss in zip(raw, losses, strict=True)]).sum()}


def reg_sl_penalty(moved: list[Tensor], distances: list[float], inf_op: bool) -> Tensor:
    """Σ_ℓ D_ℓ·‖W_ℓ − W_ℓ⁰‖² (Frobenius), or Σ_ℓ D_ℓ·max_o Σ_i |W_ℓ − W_ℓ⁰|_{oi}."""
    total = torch.zeros(())
    for difference, distance in zip(moved, distances, strict=True):
        rows = [row.abs().sum() for row in difference]
        total = total + distance * (torch.stack(rows).max() if inf_op else (difference**2).sum())
    return total


def reg_sl_projected(w: Tensor, centre: Tensor, distance: float, inf_op: bool) -> Tensor:
    """The nearest tensor on the ray from `centre` to `w` that is in the ball; with inf-op, so for each channel."""
    if inf_op:
        return torch.stack([_in_ball(w[o], centre[o], (w[o] - centre[o]).abs().sum(), distance) for o in range(len(w))])
    return _in_ball(w, centre, ((w - centre) ** 2).sum().sqrt(), distance)


def _in_ball(w: Tensor, centre: Tensor, norm: Tensor, distance: float) -> Tensor:
    return w if norm <= distance else centre + (w - centre) * (distance / norm)


def reg_sl_scaled(norm: nn.BatchNorm2d, source: nn.BatchNorm2d, distance: float) -> Tensor:
    """γ after its scale γ/√(running variance + 1e-6) was clipped to within `distance` of what it was."""
    gammas = []
    for c in range(norm.num_features):
        deviation = math.sqrt(norm.running_var[c].item() + 1e-6)
        start = source.weight[c].item() / math.sqrt(source.running_var[c].item() + 1e-6)
        scale = norm.weight[c].item() / deviation
        gammas.append(min(max(scale, start - distance), start + distance) * deviation)
    return torch.tensor(gammas)


def delta(
    student: TransferNetwork,
    source: TransferNetwork,
    batch: Batch,
    weights: list[Tensor],
    form: str,
    lam: float,
    pi: Tensor,
) -> dict[str, Tensor]:
    """Li et al. 2019 for the two convolutions of `TinyConv`, with given channel weights for each compared map.

    `official`: Σ_ℓ ½ Σ_b Σ_c C·w_c·‖ΔF_bc‖²/(HW) of what the convolutions give, and ½‖head‖². `authors`: Σ_b Σ_c
    w_c·‖ΔF_bc‖²/(HW) of the last map.
    """
    x = mixed(student.embed(batch.inputs), lam, pi)

    def maps(network: TransferNetwork) -> tuple[Tensor, Tensor, Tensor]:
        (conv1, norm1, _), (conv2, norm2, _) = network.backbone.stem, network.backbone.stage
        first = conv1(x)
        second = conv2(norm1(first).clamp(min=0))
        return first, second, norm2(second).clamp(min=0)

    out, teacher_out = maps(student), maps(source)
    z = student.target_head(out[2].mean(dim=(2, 3)))
    total = torch.zeros(())
    compared = [0, 1] if form == "official" else [2]
    for layer, w in zip(compared, weights, strict=True):
        _, num_channels, height, width = out[layer].shape
        for b in range(len(x)):
            for c in range(num_channels):
                gap = ((out[layer][b, c] - teacher_out[layer][b, c].detach()) ** 2).sum() / (height * width)
                total = total + (num_channels * w[c] * gap / 2 if form == "official" else w[c] * gap)
    terms = {"target_label": mixed_label_loss(z, batch, lam, pi), "feature": total}
    if form == "official":
        terms["head_decay"] = sum((p**2).sum() / 2 for p in student.target_head.parameters())
    return terms


def co_tuning(student: TransferNetwork, batch: Batch, R: Tensor, lam: float, pi: Tensor) -> dict[str, Tensor]:
    """You et al. 2020: −log p(y | x) of the target head; −Σ_s R[y, s]·log p(s | x) of the source head."""
    out = student(mixed(student.embed(batch.inputs), lam, pi))
    soft = []
    for b, partner in enumerate(pi):
        log_p = log_softmax(out.source_logits[b])
        rows = lam * R[batch.labels[b]] + (1 - lam) * R[batch.labels[partner]]
        soft.append(-sum(rows[s] * log_p[s] for s in range(len(rows))))
    return {"target_label": mixed_label_loss(out.target_logits, batch, lam, pi), "source_label": mean(soft)}


def smile(
    student: TransferNetwork,
    teacher: TransferNetwork,
    batch: Batch,
    lam: float,
    pi: Tensor,
    feature_loss: str,
    source_loss: str,
) -> dict[str, Tensor]:
    """SMILE with each distance as its authors' code computes it, or as printed in Eq. 4 and 5."""
    out, teacher_out = student(mixed(student.embed(batch.inputs), lam, pi)), teacher(teacher.embed(batch.inputs))
    _, _, height, width = out.features.shape
    squares, of_pooled, soft, of_classes = [], [], [], []
    for b, partner in enumerate(pi):
        map_mixed = lam * teacher_out.features[b] + (1 - lam) * teacher_out.features[partner]
        squares.append(((out.features[b] - map_mixed) ** 2).sum())
        g_mixed = lam * teacher_out.pooled[b] + (1 - lam) * teacher_out.pooled[partner]
        of_pooled.append(((g_mixed - out.pooled[b]) ** 2).sum())
        z_mixed = lam * softmax(teacher_out.source_logits[b]) + (1 - lam) * softmax(teacher_out.source_logits[partner])
        soft.append(-(z_mixed * log_softmax(out.source_logits[b])).sum())
        of_classes.append(((z_mixed - softmax(out.source_logits[b])) ** 2).sum())
    authors = {"feature": torch.stack(squares).sum().sqrt() / (height * width), "source_label": mean(soft)}
    paper = {"feature": mean(of_pooled), "source_label": mean(of_classes)}
    forms = {"authors": authors, "paper": paper}
    return {
        "target_label": mixed_label_loss(out.target_logits, batch, lam, pi),
        "feature": forms[feature_loss]["feature"],
        "source_label": forms[source_loss]["source_label"],
    }


def mixed_label_loss(z: Tensor, batch: Batch, lam: float, pi: Tensor) -> Tensor:
    """λ·CE(z, y) + (1 − λ)·CE(z, y[π]), with hard labels."""
    y = batch.labels
    return mean([-(lam * log_softmax(z[b])[y[b]] + (1 - lam) * log_softmax(z[b])[y[i]]) for b, i in enumerate(pi)])


def mixed(x: Tensor, lam: float, pi: Tensor) -> Tensor:
    """Row b: λ·x[b] + (1 − λ)·x[π(b)]."""
    return torch.stack([lam * x[b] + (1 - lam) * x[partner] for b, partner in enumerate(pi)])


def unit(x: Tensor) -> Tensor:
    """Of length 1."""
    return x / (x**2).sum().sqrt()


def softmax(z: Tensor) -> Tensor:
    """Of one row."""
    return z.exp() / z.exp().sum()


def log_softmax(z: Tensor) -> Tensor:
    """Of one row."""
    return softmax(z).log()


def entropy(rows: Tensor) -> Tensor:
    """Mean over rows of positive probabilities."""
    return mean([-(row * row.log()).sum() for row in rows])


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum() / len(values)
