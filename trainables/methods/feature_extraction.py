"""Feature extraction: training of the target head on frozen features (Donahue et al., 2014, https://arxiv.org/abs/1310.1531)."""

from __future__ import annotations

from typing import Literal

from trainables.backbones.network import TransferNetwork
from trainables.methods.base import Method, MethodConfig, MethodContext
from trainables.types import Batch, LossTerms


class FeatureExtractionConfig(MethodConfig):
    """Settings of feature extraction. The default is that of the SMILE authors' code (`fe`)."""

    name: Literal["feature_extraction"] = "feature_extraction"
    backbone_mode: Literal["train", "eval"] = "train"
    """`train`: BatchNorm uses and updates the statistics of the target data, and dropout within the backbone is on.
    With `training.batch_norm: frozen` the statistics stay pre-trained, and `train` is about dropout alone.
    `eval`: the backbone computes the pre-trained function, and the training is a linear probe."""


class FeatureExtraction(Method):
    """Training of the target head alone; the backbone keeps its pre-trained parameters.

    The loss is cross-entropy on the target labels. The backbone's parameters take no gradient and never enter the
    optimiser; its BatchNorm statistics follow the target data with `backbone_mode: train`, unless they are frozen.
    """

    Config = FeatureExtractionConfig
    config: FeatureExtractionConfig
    is_recordable = True

    def __init__(self, config: FeatureExtractionConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        student.backbone.requires_grad_(False)

    def loss(self, batch: Batch) -> LossTerms:
        self.student.backbone.train(self.config.backbone_mode == "train")
        outputs = self.student(self.student.embed(batch.inputs))
        return {"target_label": self.target_loss(outputs.target_logits, batch.labels)}
