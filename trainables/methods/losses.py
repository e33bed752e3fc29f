"""Losses between the outputs of a network and their targets, in the forms that the papers and their codes use.

All are computed in full precision, also inside autocast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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


def on_host(x: Tensor) -> Tensor:
    """Copies a tensor to the CPU, with its graph; one that is there is returned unchanged."""
    return x.cpu()


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Converts labels N to one-hot rows N×K in the default dtype."""
    classes_K = torch.arange(num_classes, device=labels.device)  # F.one_hot reads the labels' range first
    return (labels[:, None] == classes_K).to(torch.get_default_dtype())


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of −Σ target·log softmax(logits); `target` is labels N or probabilities N×K.

    Cross-entropy is linear in its target: with a blended one-hot target it equals λ·CE(y) + (1−λ)·CE(y[partner]).

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> torch.equal(cross_entropy(logits, labels), cross_entropy(logits, one_hot(labels, num_classes=2)))
    True
    """
    logits = full_precision(logits)
    return F.cross_entropy(logits, target.to(logits.dtype) if target.is_floating_point() else target)


@dataclass(frozen=True, eq=False)
class TargetLoss:
    """Cross-entropy of the target head, with class weights and label smoothing: the first term of every method.

    `class_weights` are K weights (None: all are one), `label_smoothing` is the share ε of a target that is spread over
    all classes. Both are those of `torch.nn.functional.cross_entropy`: of labels the mean is weighted, Σ w_y·ℓ / Σ w_y;
    of a blended target each class is weighted by its own weight, −Σ w_k·t_k·log p_k, and the mean is over the batch.
    With `balanced_class_weights` both are alike, as the mean weight of a training example is one.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> torch.equal(TargetLoss()(logits, labels), cross_entropy(logits, labels))
    True
    """

    class_weights: Tensor | None = None
    label_smoothing: float = 0.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the mean over the batch; `target` is labels N or probabilities N×K."""
        return self._of(logits, target, "mean")

    def of_each(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the weighted loss N of each example."""
        return self._of(logits, target, "none")

    def without_weights(self) -> TargetLoss:
        """The same loss with all classes of one weight."""
        return TargetLoss(label_smoothing=self.label_smoothing)

    def smoothed(self, target_NK: Tensor) -> Tensor:
        """Spreads the share ε of each target over all classes, for a loss that is no cross-entropy."""
        if not self.label_smoothing:
            return target_NK
        return torch.lerp(target_NK, torch.full_like(target_NK, 1 / target_NK.shape[1]), self.label_smoothing)

    def example_weights(self, target_NK: Tensor) -> Tensor | None:
        """Weight N×1 of each example: the mean of the class weights by its target. None if there are none."""
        if self.class_weights is None:
            return None
        return target_NK @ self.class_weights.to(target_NK.dtype)[:, None]

    def _of(self, logits: Tensor, target: Tensor, reduction: str) -> Tensor:
        logits = full_precision(logits)
        return F.cross_entropy(
            logits,
            target.to(logits.dtype) if target.is_floating_point() else target,
            weight=None if self.class_weights is None else self.class_weights.to(logits.dtype),
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )


CROSS_ENTROPY = TargetLoss()
"""Cross-entropy without class weights and smoothing."""


def balanced_class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weights K with which all classes that have an example count the same: N/(K·n_k), scikit-learn's `balanced`.

    Their mean over the examples is one. A class without an example has weight zero, and is not counted in K.

    >>> balanced_class_weights(torch.tensor([0, 0, 0, 2]), num_classes=3)
    tensor([0.6667, 0.0000, 2.0000])
    """
    counts_K = torch.bincount(labels, minlength=num_classes).to(torch.get_default_dtype())
    share = len(labels) / (counts_K > 0).sum()
    return torch.where(counts_K > 0, share / counts_K, 0.0)


def excess(loss: Tensor, target_NK: Tensor) -> Tensor:
    """A `cross_entropy` less its lower bound, which is the mean entropy of the rows of its target."""
    return torch.sub(loss, torch.special.entr(target_NK).sum(), alpha=1 / len(target_NK))


def frobenius_per_position(output: Tensor, target: Tensor, factor: float = 1.0) -> Tensor:
    """‖output − target‖_F over the whole batch, not squared, divided by H·W (the SMILE authors' code), times `factor`.

    `output` and `target` are feature maps of one shape (see `num_positions`).

    Its gradient has norm 1/(H·W) whatever the error and N; its value grows with √N.
    """
    difference = full_precision(output) - full_precision(target)
    norm: Tensor = torch.linalg.vector_norm(difference)
    return norm * (factor / num_positions(output))


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
