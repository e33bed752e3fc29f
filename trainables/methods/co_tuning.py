"""Co-Tuning (You et al., NeurIPS 2020, "Co-Tuning for Transfer Learning"; code https://github.com/thuml/CoTuning)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.network import TransferNetwork, in_evaluation_mode
from trainables.methods.base import Batches, Method, MethodContext
from trainables.methods.losses import cross_entropy, excess, full_precision, on_host
from trainables.methods.mixing import MixableConfig, mixed
from trainables.seeding import rng_for
from trainables.types import Batch, LossTerms

REGULARISATION = [10.0 ** (k / 2) for k in range(-8, 9)]
"""Weights of the cross-entropy relative to ½‖w‖² that the reverse approach tries, in increasing order."""


class CoTuningConfig(MixableConfig):
    """Settings of Co-Tuning. Defaults are those of the authors' code.

    The code also has `training.learning_rate: 0.001` and `training.head_lr_multiplier: 10`.
    """

    name: Literal["co_tuning"] = "co_tuning"
    trade_off: NonNegativeFloat = 2.3
    """Weight of the cross-entropy over the source classes, λ in the paper."""
    relationship: Literal["reverse", "direct"] = "reverse"
    """How p(source class | target class) is estimated: `direct` averages the pre-trained classifier's probabilities
    over the images of a class; `reverse` learns p(target class | source class) and inverts it by Bayes' rule."""
    source_logit_scale: PositiveFloat = 1.0
    """Factor on the pre-trained classifier's logits that calibrates it, 1/temperature: 0.8840456604957581 for
    torchvision's ResNet-50 (V1), by the authors' fit on ImageNet's validation set. 1 if it is unknown."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each class's training images on which `reverse` selects its regularisation and its scale. The authors
    use a validation set."""


class CoTuning(Method):
    """Fine-tuning with two heads, of which the source head is trained on a mixture of source classes for each label.

    The loss is CE(target head, y) + trade_off·CE(source head, R[y]), with R (K×S) the category relationship: the
    probabilities of the source classes given each target class, measured once with the initial network. No second
    network runs during training. The row of a class without images is the mean over all images.
    """

    Config = CoTuningConfig
    config: CoTuningConfig
    is_recordable = True

    def __init__(self, config: CoTuningConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.relationship = Relationship(student, context) if config.trade_off else None

    @classmethod
    def uses_source_head(cls, config: CoTuningConfig) -> bool:
        return config.trade_off > 0

    def prepare(self, batches: Batches) -> None:
        if self.relationship is None:
            return
        probabilities_NS, labels_N = source_probabilities(self.student, batches, self.config.source_logit_scale)
        num_classes = self.context.num_classes
        if self.config.relationship == "direct":
            rows_KS = direct_relationship(probabilities_NS, labels_N, num_classes)
        else:
            held_out_N = validation_part(labels_N, self.config.validation_share, self.context.seed)
            rows_KS = reverse_relationship(probabilities_NS, labels_N, held_out_N, num_classes)
        self.relationship.rows_KS.copy_(rows_KS)

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        outputs = self.student(inputs)
        terms = {"target_label": self.target_loss(outputs.target_logits, targets)}
        if self.relationship is not None:
            assert outputs.source_logits is not None  # by uses_source_head
            target_NS = self.relationship.of(targets)
            gap = cross_entropy(outputs.source_logits, target_NS)
            self.diagnostics["source_label_excess"] = excess(gap.detach(), target_NS)
            terms["source_label"] = self.config.trade_off * gap
        return terms

    def extra_modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"relationship": self.relationship} if self.relationship is not None else {})


class Relationship(nn.Module):
    """Category relationship R (K×S): the probabilities of the source classes given each target class."""

    def __init__(self, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__()
        assert student.source_head is not None
        weight = student.source_head.weight
        self.register_buffer("rows_KS", weight.new_zeros(context.num_classes, len(weight)))
        self.rows_KS: Tensor

    def of(self, targets: Tensor) -> Tensor:
        """Rows N×S of labels N, or the blended rows of blended labels N×K."""
        if not targets.is_floating_point():
            return self.rows_KS[targets]
        return torch.einsum("nk,ks->ns", targets.to(self.rows_KS), self.rows_KS)


@torch.no_grad()
def source_probabilities(student: TransferNetwork, batches: Batches, logit_scale: float) -> tuple[Tensor, Tensor]:
    """Probabilities N×S of the pre-trained classifier on the training set, in double precision, and the labels N.

    Both are on the host, where double precision is faster than on many GPUs, and L-BFGS does not wait for a device.
    """
    probabilities, labels = [], []
    with in_evaluation_mode(student):
        for batch in batches():
            logits = student(student.embed(batch.inputs)).source_logits
            assert logits is not None
            probabilities.append((logit_scale * on_host(full_precision(logits)).double()).softmax(dim=1))
            labels.append(on_host(batch.labels))
    return torch.cat(probabilities), torch.cat(labels)


def validation_part(labels_N: Tensor, share: float, seed: int) -> Tensor:
    """Draws a mask N that holds out about `share` of each class, never its only image, at (seed, "co_tuning", …).

    It is all false if no class has an image to spare.
    """
    order = torch.from_numpy(rng_for(seed, "co_tuning", "validation").permutation(len(labels_N))).to(labels_N.device)
    held_out_N = torch.zeros_like(labels_N, dtype=torch.bool)
    for label in torch.unique(labels_N):
        members = order[labels_N[order] == label]
        held_out_N[members[: min(round(share * len(members)), len(members) - 1)]] = True
    return held_out_N


def direct_relationship(probabilities_NS: Tensor, labels_N: Tensor, num_classes: int) -> Tensor:
    """R (K×S) by the direct approach: R[k] is the mean of the source probabilities over the images of class k."""
    members_KN = F.one_hot(labels_N, num_classes).T.to(probabilities_NS)
    marginal_S = probabilities_NS.mean(dim=0)
    counts_K1 = members_KN.sum(dim=1, keepdim=True)
    return torch.where(counts_K1 > 0, members_KN @ probabilities_NS / counts_K1.clamp(min=1), marginal_S)


def reverse_relationship(probabilities_NS: Tensor, labels_N: Tensor, held_out_N: Tensor, num_classes: int) -> Tensor:
    """R (K×S) by the reverse approach: p(y_s|y_t) ∝ p(y_t|y_s)·p(y_s), with p(y_t|y_s) from a softmax regression.

    The regression predicts labels from source probabilities, without intercept; p(y_t|y_s) is its output for the
    one-hot input y_s. Its regularisation is the one with the most correct validation images (the weakest, if several
    have), its scale the one with the least validation cross-entropy. p(y_s) is the mean over all images.
    """
    train = probabilities_NS[~held_out_N], labels_N[~held_out_N]
    validation = (probabilities_NS[held_out_N], labels_N[held_out_N]) if held_out_N.any() else train
    best_SK, best_correct = torch.zeros(0), -1
    start_SK = probabilities_NS.new_zeros(probabilities_NS.shape[1], num_classes)
    for strength in REGULARISATION:
        start_SK = softmax_regression(*train, strength, start_SK)
        correct = int(((validation[0] @ start_SK).argmax(dim=1) == validation[1]).sum())
        if correct >= best_correct:
            best_SK, best_correct = start_SK, correct
    weights_SK = best_SK * fitted_scale(validation[0] @ best_SK, validation[1])

    marginal_S = probabilities_NS.mean(dim=0)
    joint_KS = weights_SK.softmax(dim=1).T * marginal_S
    has_images_K = torch.bincount(labels_N, minlength=num_classes) > 0
    return torch.where(has_images_K[:, None], joint_KS / joint_KS.sum(dim=1, keepdim=True), marginal_S)


def softmax_regression(inputs_NS: Tensor, labels_N: Tensor, strength: float, start_SK: Tensor) -> Tensor:
    """Weights S×K that minimise strength·Σ_b CE_b + ½‖w‖², by L-BFGS from `start_SK`; one column for each class."""
    weights_SK = start_SK.clone().requires_grad_()
    search = torch.optim.LBFGS([weights_SK], max_iter=100, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        search.zero_grad()
        # Divided by the number of images and the strength: the tolerances of L-BFGS assume values around one.
        fit = F.cross_entropy(inputs_NS @ weights_SK, labels_N)
        value = fit + weights_SK.square().sum() / (2 * strength * len(labels_N))
        torch.autograd.backward(value)
        return value

    search.step(objective)  # type: ignore[no-untyped-call]
    return weights_SK.detach()


def fitted_scale(logits_NK: Tensor, labels_N: Tensor) -> float:
    """The factor on the logits that minimises the cross-entropy, by at most twenty steps of L-BFGS from 1."""
    scale = logits_NK.new_ones(()).requires_grad_()
    search = torch.optim.LBFGS([scale], max_iter=20, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        search.zero_grad()
        value = F.cross_entropy(scale * logits_NK, labels_N)
        torch.autograd.backward(value)
        return value

    search.step(objective)  # type: ignore[no-untyped-call]
    return float(scale.detach())
