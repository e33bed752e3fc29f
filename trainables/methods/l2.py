"""L²: plain fine-tuning with weight decay, the first baseline of the SMILE paper's tables (Donahue et al., 2014)."""

from __future__ import annotations

from typing import Literal

from trainables.methods.base import Method
from trainables.methods.mixing import MixableConfig, mixed
from trainables.types import Batch, LossTerms


class L2Config(MixableConfig):
    """Settings of plain fine-tuning: none but the mixing; the weight decay is `training.weight_decay`."""

    name: Literal["l2"] = "l2"


class L2(Method):
    """Plain fine-tuning with weight decay: cross-entropy on the target labels, every parameter trained."""

    Config = L2Config
    config: L2Config
    is_recordable = True

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        return {"target_label": self.target_loss(self.student(inputs).target_logits, targets)}
