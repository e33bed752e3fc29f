"""SMILE: Sample-to-feature Mixup for Efficient Transfer Learning (Li et al., https://arxiv.org/abs/2103.13941)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import nn

from trainables.backbones.batchnorm_folding import FoldedNetwork
from trainables.backbones.network import TransferNetwork
from trainables.methods.base import Method, MethodConfig, MethodContext
from trainables.methods.losses import (
    cross_entropy,
    excess,
    frobenius_per_position,
    frobenius_scale,
    full_precision,
    mean_squared_norm,
    one_hot,
)
from trainables.methods.mixing import Mix, MixAlpha, draw_mix
from trainables.methods.teacher import TeacherPrecision, ema_update, frozen_copy, scaled_decay, teacher_autocast
from trainables.types import Batch, LossTerms, Outputs, SourceOutputs

Form = Literal["authors", "paper"]
"""Form of a term of the loss: of the authors' code, or as the paper prints it."""


class SmileConfig(MethodConfig):
    """Settings of SMILE. Defaults are those of the authors' code.

    A γ belongs to the form of its term: the two forms differ in scale by orders of magnitude, so a value tuned for one
    does not transfer to the other. For a form it means the same strength beside the cross-entropy for every size of
    batch and feature map (docs/decisions/0029).
    """

    replaced_keys: ClassVar[Mapping[str, str]] = {
        "formulation": "the keys feature_loss and source_loss, each authors or paper"
    }

    name: Literal["smile"] = "smile"
    feature_loss: Form = "authors"
    """Form of L_FE. `authors`: ‖ΔF‖_F/(H·W) of the feature maps over the whole batch, as in their code, times
    `frobenius_scale`. `paper`: Eq. 4 as printed, the mean squared distance of the pooled features."""
    source_loss: Form = "authors"
    """Form of L_FC. `authors`: soft cross-entropy, as in their code. `paper`: Eq. 5 as printed, the mean squared
    distance of the source-class probabilities."""
    gamma_fe: NonNegativeFloat = 0.01
    """γ_FE, weight of the feature term L_FE."""
    gamma_fc: NonNegativeFloat = 0.1
    """γ_FC, weight of the source-label term L_FC."""
    alpha: MixAlpha = 0.2
    """λ of the mixup is drawn from Beta(α, α)."""
    ema_decay: Annotated[float, Field(ge=0, le=1)] = 0.999
    """Decay of the teacher at each of its updates, for a training of `ema_reference_steps`."""
    ema_period_steps: PositiveInt = 10
    """Number of optimiser steps between updates of the teacher."""
    ema_reference_steps: PositiveInt | None = 9000
    """Number of steps that `ema_decay` is for. A training of another length uses the decay that leaves the teacher the
    same share of its pre-trained weights at the end (0.999: 41 %), so that a value has the same effect at 80 and at
    9,000 steps. None uses `ema_decay` as it is."""
    teacher_precision: TeacherPrecision = "auto"
    """Precision of the teacher's forward pass, which costs half as much in bf16; see docs/decisions/0012."""

    def decay_per_update(self, num_steps: int) -> float:
        """The decay per update in a training of `num_steps`.

        >>> round(SmileConfig(ema_decay=0.999).decay_per_update(num_steps=90), 3)
        0.905
        """
        return scaled_decay(self.ema_decay, self.ema_reference_steps, num_steps)


class Smile(Method):
    """SMILE: mixup of images and labels, and of a moving-average teacher's features and source-class probabilities.

    The loss is CE + γ_FE·L_FE + γ_FC·L_FC. One mixup draw is applied to the images, to the target labels (CE, Eq. 3),
    and to the teacher's outputs for the unmixed images: its features (L_FE, Eq. 4) and its source-class probabilities
    (L_FC, Eq. 5). The teacher is initialised with the pre-trained network, is always in evaluation mode, and is an
    exponential moving average of the student; its source head and its BatchNorm statistics stay pre-trained, as in the
    authors' code. With γ_FE = γ_FC = 0 the method equals mixup to the bit.
    """

    Config = SmileConfig
    config: SmileConfig
    is_recordable = True

    def __init__(self, config: SmileConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.teacher: TransferNetwork | None = None
        self._folded_teacher: FoldedNetwork | None = None
        if config.gamma_fe or config.gamma_fc:
            teacher = self.teacher = frozen_copy(student, context.kept, "teacher")
            folded = ("folded", id(teacher))
            self._folded_teacher = context.kept.get(folded, lambda: FoldedNetwork(teacher, context.compile))
            self._folded_teacher.forget()
        self.decay = config.decay_per_update(context.num_steps)

    @classmethod
    def uses_source_head(cls, config: SmileConfig) -> bool:
        return config.gamma_fc > 0

    @property
    def folded_norms(self) -> tuple[int, int]:
        return (0, 0) if self._folded_teacher is None else self._folded_teacher.folded_norms

    def loss(self, batch: Batch) -> LossTerms:
        address = (batch.labels.device, self.context.seed, batch.step, batch.values)
        mix = draw_mix(len(batch.labels), self.config.alpha, *address)
        embedded = self.student.embed(batch.inputs)
        outputs = self.student(mix.blend(embedded))
        labels_NK = one_hot(batch.labels, self.context.num_classes)
        terms = {"target_label": self.target_loss(outputs.target_logits, mix.blend(labels_NK))}
        if self._folded_teacher is None:
            return terms
        with teacher_autocast(self.config.teacher_precision, batch.labels.device):
            teacher_outputs = self._folded_teacher(batch.inputs, embedded)
        if self.config.gamma_fe:
            terms["feature"] = self._feature_loss(outputs, teacher_outputs, mix)
        if self.config.gamma_fc:
            terms["source_label"] = self.config.gamma_fc * self._source_label_loss(outputs, teacher_outputs, mix)
        return terms

    def _feature_loss(self, outputs: Outputs, teacher_outputs: SourceOutputs, mix: Mix) -> torch.Tensor:
        """γ_FE·L_FE. Not zero even at step 0: the student normalises by the batch, the teacher by its running ones."""
        if self.config.feature_loss == "authors":
            target = mix.blend(full_precision(teacher_outputs.features))
            factor = self.config.gamma_fe * frobenius_scale(outputs.features)
            return frobenius_per_position(outputs.features, target, factor)
        target = mix.blend(full_precision(teacher_outputs.pooled))
        return self.config.gamma_fe * mean_squared_norm(outputs.pooled, target)

    def _source_label_loss(self, outputs: Outputs, teacher_outputs: SourceOutputs, mix: Mix) -> torch.Tensor:
        """L_FC. The authors' form is bounded below by the entropy of its target; the excess over it is logged."""
        assert outputs.source_logits is not None  # by uses_source_head
        assert teacher_outputs.source_logits is not None
        target_NS = mix.blend(full_precision(teacher_outputs.source_logits).softmax(dim=1))
        if self.config.source_loss == "authors":
            gap = cross_entropy(outputs.source_logits, target_NS)
            self.diagnostics["source_label_excess"] = excess(gap.detach(), target_NS)
            return gap
        return mean_squared_norm(full_precision(outputs.source_logits).softmax(dim=1), target_NS)

    def after_step(self, step: int) -> None:
        if self.teacher is not None and self._folded_teacher is not None and self.update_key(step) is not None:
            ema_update(self.teacher.backbone, self.student.backbone, self.decay)
            self._folded_teacher.forget()  # operations on lists of tensors need not raise version counters
            self._folded_teacher.refresh()

    def update_key(self, step: int) -> Hashable:
        is_due = self.teacher is not None and step % self.config.ema_period_steps == 0
        return "teacher" if is_due else None

    def tensors_changed(self) -> None:
        if self._folded_teacher is not None:
            self._folded_teacher.forget()

    def extra_modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"teacher": self.teacher} if self.teacher is not None else {})
