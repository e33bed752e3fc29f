"""CutMix (Yun et al., ICCV 2019, https://arxiv.org/abs/1905.04899)."""

from __future__ import annotations

from typing import Literal

from trainables.backbones.network import BackboneFacts
from trainables.methods.base import Method, MethodConfig
from trainables.methods.losses import one_hot
from trainables.methods.mixing import CUTMIX_NEED, Cut, CutProbability, MaskedCut, MixAlpha, draw_cut, draw_masked_cut
from trainables.types import Batch, LossTerms


class CutMixConfig(MethodConfig):
    """Settings of CutMix. α = 0.2 and half of the batches are those of the SMILE authors' code; the paper has α = 1."""

    name: Literal["cutmix"] = "cutmix"
    alpha: MixAlpha = 0.2
    probability: CutProbability = 0.5

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        return [] if backbone.takes_images else [CUTMIX_NEED]


class CutMix(Method):
    """CutMix: a box of another image pasted into each image, the labels blended by area.

    The box has a share 1−λ of the area, λ ~ Beta(α, α), before it is clipped, and is the same for all images of a
    batch, which are cut after normalisation. A share `probability` of the batches has a box; the others are those of
    plain fine-tuning.
    """

    Config = CutMixConfig
    config: CutMixConfig
    is_recordable = True

    def loss(self, batch: Batch) -> LossTerms:
        images_NCHW = self.student.embed(batch.inputs)
        config = self.config
        address = (config.alpha, config.probability, self.context.seed)
        cut: Cut | MaskedCut = (
            draw_cut(images_NCHW, *address, batch.step)
            if batch.values is None
            else draw_masked_cut(images_NCHW, *address, batch.values)
        )
        outputs = self.student(cut.paste(images_NCHW))
        labels_NK = one_hot(batch.labels, self.context.num_classes)
        return {"target_label": self.target_loss(outputs.target_logits, cut.labels.blend(labels_NK))}
