"""SMILE: Sample-to-feature Mixup for Efficient Transfer Learning (https://arxiv.org/abs/2103.13941)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import nn

from trainables.backbones.batchnorm_folding import Folded
from trainables.backbones.network import TransferNetwork
from trainables.methods.base import Method, MethodConfig, MethodContext
from trainables.methods.losses import (
    cross_entropy,
    entropy,
    frobenius_per_position,
    full_precision,
    mean_squared_norm,
    one_hot,
)
from trainables.methods.mixing import Mix, MixAlpha, draw_mix
from trainables.methods.teacher import TeacherPrecision, follow, frozen_copy, teaching
from trainables.types import Batch, LossTerms, Outputs


class SmileConfig(MethodConfig):
    """γ_FE, γ_FC, α and the EMA decay; defaults are the authors' code's.

    The γ's belong to the `formulation`: the two forms of a distance differ in scale by orders of magnitude, so a γ
    found for one says nothing of the other.
    """

    name: Literal["smile"] = "smile"
    formulation: Literal["authors", "paper"] = "authors"
    """`authors`: ‖ΔF‖_F/(H·W) over the whole batch and soft cross-entropy, as their code does.
    `paper`: Eq. 4 and 5 as printed: squared distances of the pooled features and of the source-class probabilities."""
    gamma_fe: NonNegativeFloat = 0.01
    gamma_fc: NonNegativeFloat = 0.1
    alpha: MixAlpha = 0.2
    ema_decay: Annotated[float, Field(ge=0, le=1)] = 0.999
    """Decay of the teacher at each of its updates, said at the paper's budget; see `ema_reference_steps`."""
    ema_period_steps: PositiveInt = 10
    """The teacher follows the student every so many optimiser steps."""
    ema_reference_steps: PositiveInt | None = 9000
    """Budget for which `ema_decay` is meant. A training of another length uses the decay that leaves the teacher as
    much of its pre-trained weights at the end (0.999 leaves 41 %), so that one value means the same at 80 and at
    9,000 steps. None takes `ema_decay` literally."""
    teacher_precision: TeacherPrecision = "auto"
    """In bf16 the teacher's forward pass costs half as much; see docs/decisions/0012."""

    def decay_per_update(self, num_steps: int) -> float:
        """The decay in effect in a training of `num_steps`."""
        if self.ema_reference_steps is None:
            return self.ema_decay
        return float(self.ema_decay ** (self.ema_reference_steps / num_steps))


class Smile(Method):
    """SMILE: mixup of images and labels, and of a moving-average teacher's features and source-class probabilities.

    One mixing draw is applied to the images, to the target labels, and to what the teacher says of the unmixed images:
    its features (γ_FE) and its source-class probabilities (γ_FC). The teacher starts as the pre-trained network, is
    always in evaluation mode, and follows the student as a moving average; its source head and its BatchNorm statistics
    stay pre-trained, as in the authors' code. With γ_FE = γ_FC = 0 this is mixup, to the bit.
    """

    Config = SmileConfig
    config: SmileConfig

    def __init__(self, config: SmileConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.teacher = frozen_copy(student) if config.gamma_fe or config.gamma_fc else None
        self._taught = Folded(self.teacher, context.compile) if self.teacher is not None else None
        self.decay = config.decay_per_update(context.num_steps)

    @classmethod
    def uses_source_head(cls, config: SmileConfig) -> bool:
        return config.gamma_fc > 0

    def loss(self, batch: Batch) -> LossTerms:
        mix = draw_mix(len(batch.labels), self.config.alpha, batch.labels.device, self.context.seed, batch.step)
        seen = self.student(mix.blend(self.student.embed(batch.inputs)))
        labels_NK = one_hot(batch.labels, self.context.num_classes)
        terms = {"target_label": cross_entropy(seen.target_logits, mix.blend(labels_NK))}
        if self._taught is None:
            return terms
        with teaching(self.config.teacher_precision, batch.labels.device):
            taught = self._taught(batch.inputs)
        if self.config.gamma_fe:
            terms["feature"] = self.config.gamma_fe * self._feature_gap(seen, taught, mix)
        if self.config.gamma_fc:
            terms["source_label"] = self.config.gamma_fc * self._source_gap(seen, taught, mix)
        return terms

    def _feature_gap(self, seen: Outputs, taught: Outputs, mix: Mix) -> torch.Tensor:
        """L_FE. Not zero even at step 0: the student normalises by the batch's statistics, the teacher by its own."""
        if self.config.formulation == "authors":
            return frobenius_per_position(seen.features, mix.blend(full_precision(taught.features)))
        return mean_squared_norm(seen.pooled, mix.blend(full_precision(taught.pooled)))

    def _source_gap(self, seen: Outputs, taught: Outputs, mix: Mix) -> torch.Tensor:
        """L_FC. The authors' form cannot fall below the entropy of its target; the excess is what is left to learn."""
        assert seen.source_logits is not None  # as uses_source_head says
        assert taught.source_logits is not None
        taught_NS = mix.blend(full_precision(taught.source_logits).softmax(dim=1))
        if self.config.formulation == "authors":
            gap = cross_entropy(seen.source_logits, taught_NS)
            self.watched["source_label_excess"] = gap.detach() - entropy(taught_NS)
            return gap
        return mean_squared_norm(full_precision(seen.source_logits).softmax(dim=1), taught_NS)

    def after_step(self, step: int) -> None:
        if self.teacher is not None and step % self.config.ema_period_steps == 0:
            follow(self.teacher.backbone, self.student.backbone, self.decay)

    def extra_modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"teacher": self.teacher} if self.teacher is not None else {})
