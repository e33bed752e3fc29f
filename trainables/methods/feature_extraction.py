"""Feature extraction: the backbone stays pre-trained, and only the target head learns (Donahue et al., 2014)."""

from __future__ import annotations

from typing import Literal

from trainables.backbones.network import TransferNetwork
from trainables.methods.base import Method, MethodConfig, MethodContext
from trainables.methods.losses import cross_entropy
from trainables.types import Batch, LossTerms


class FeatureExtractionConfig(MethodConfig):
    """How the backbone is run; the default is the SMILE authors' code's (`fe`)."""

    name: Literal["feature_extraction"] = "feature_extraction"
    backbone_mode: Literal["train", "eval"] = "train"
    """`train`: BatchNorm normalises by the batch and its running statistics follow the target data, and dropout within
    the backbone is on. `eval`: the backbone is the pre-trained function, and the whole a linear probe."""


class FeatureExtraction(Method):
    """Training of the target head alone; the backbone keeps its pre-trained parameters.

    The loss is cross-entropy on the target labels. The backbone's parameters take no gradient and never enter the
    optimiser; its BatchNorm statistics follow the target data with `backbone_mode: train`.
    """

    Config = FeatureExtractionConfig
    config: FeatureExtractionConfig

    def __init__(self, config: FeatureExtractionConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        student.backbone.requires_grad_(False)

    def loss(self, batch: Batch) -> LossTerms:
        self.student.backbone.train(self.config.backbone_mode == "train")
        seen = self.student(self.student.embed(batch.inputs))
        return {"target_label": cross_entropy(seen.target_logits, batch.labels)}
