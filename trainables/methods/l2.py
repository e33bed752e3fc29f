"""L²: plain fine-tuning with weight decay, the first baseline of the paper's tables (Donahue et al., 2014)."""

from __future__ import annotations

from typing import Literal

from trainables.methods.base import Method, MethodConfig
from trainables.methods.distances import cross_entropy
from trainables.types import Batch, LossTerms


class L2Config(MethodConfig):
    """Nothing to set: the weight decay is the optimiser's (`training.weight_decay`)."""

    name: Literal["l2"] = "l2"


class L2(Method):
    """Cross-entropy on the target labels; every parameter is free to move from its pre-trained value."""

    Config = L2Config
    config: L2Config

    def loss(self, batch: Batch) -> LossTerms:
        seen = self.student(self.student.embed(batch.inputs))
        return {"target_label": cross_entropy(seen.target_logits, batch.labels)}
