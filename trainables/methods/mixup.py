"""Mixup (Zhang et al., ICLR 2018, https://arxiv.org/abs/1710.09412)."""

from __future__ import annotations

from typing import Literal

from trainables.methods.base import Method, MethodConfig
from trainables.methods.losses import one_hot
from trainables.methods.mixing import MixAlpha, draw_mix
from trainables.types import Batch, LossTerms


class MixupConfig(MethodConfig):
    """Settings of mixup. α = 0.2 is that of the SMILE authors' code; their paper states none."""

    name: Literal["mixup"] = "mixup"
    alpha: MixAlpha = 0.2


class Mixup(Method):
    """Mixup: convex combinations of two inputs and of their labels.

    The loss is CE(f(λ·x + (1−λ)·x[π]), λ·y + (1−λ)·y[π]) with λ ~ Beta(α, α) and a permutation π of the batch, one λ a
    batch. Images are mixed after normalisation; there is no pass over unmixed inputs.
    """

    Config = MixupConfig
    config: MixupConfig
    is_recordable = True

    def loss(self, batch: Batch) -> LossTerms:
        address = (batch.labels.device, self.context.seed, batch.step, batch.values)
        mix = draw_mix(len(batch.labels), self.config.alpha, *address)
        outputs = self.student(mix.blend(self.student.embed(batch.inputs)))
        labels_NK = one_hot(batch.labels, self.context.num_classes)
        return {"target_label": self.target_loss(outputs.target_logits, mix.blend(labels_NK))}
