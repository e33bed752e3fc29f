"""L²: plain fine-tuning with weight decay, the first baseline of the paper's tables (Donahue et al., 2014)."""

from __future__ import annotations

from typing import Literal

from trainables.methods.base import Method
from trainables.methods.losses import cross_entropy
from trainables.methods.mixing import MixableConfig, mixed
from trainables.types import Batch, LossTerms


class L2Config(MixableConfig):
    """Nothing of its own to set: the weight decay is the optimiser's (`training.weight_decay`)."""

    name: Literal["l2"] = "l2"


class L2(Method):
    """Plain fine-tuning with weight decay: cross-entropy on the target labels, every parameter trained."""

    Config = L2Config
    config: L2Config

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        return {"target_label": cross_entropy(self.student(inputs).target_logits, targets)}
