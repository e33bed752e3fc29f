"""Mixup: blend two inputs and their labels (Zhang et al., 2018, https://arxiv.org/abs/1710.09412)."""

from __future__ import annotations

from typing import Literal

from trainables.methods.base import Method, MethodConfig
from trainables.methods.losses import cross_entropy, one_hot
from trainables.methods.mixing import MixAlpha, draw_mix
from trainables.types import Batch, LossTerms


class MixupConfig(MethodConfig):
    """α = 0.2 is what the SMILE authors' code uses; their paper states none."""

    name: Literal["mixup"] = "mixup"
    alpha: MixAlpha = 0.2


class Mixup(Method):
    """Mixup: convex combinations of two inputs and of their labels.

    Every training batch is mixed after normalisation, with one λ a batch; there is no pass over unmixed inputs.
    """

    Config = MixupConfig
    config: MixupConfig

    def loss(self, batch: Batch) -> LossTerms:
        mix = draw_mix(len(batch.labels), self.config.alpha, batch.labels.device, self.context.seed, batch.step)
        seen = self.student(mix.blend(self.student.embed(batch.inputs)))
        labels_NK = one_hot(batch.labels, self.context.num_classes)
        return {"target_label": cross_entropy(seen.target_logits, mix.blend(labels_NK))}
