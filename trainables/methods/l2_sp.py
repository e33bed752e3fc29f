"""L2-SP: weight decay towards the starting point (Li et al., ICML 2018, https://arxiv.org/abs/1802.01483)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.network import TransferNetwork
from trainables.methods.base import Method, MethodContext
from trainables.methods.mixing import MixableConfig, mixed
from trainables.methods.teacher import frozen_copy
from trainables.types import Batch, LossTerms


class L2SPConfig(MixableConfig):
    """Settings of L2-SP. α and β are those of the authors' code, which also has `training.weight_decay: 0`.

    The SMILE authors' code has no β and keeps a weight decay of 1e-4 on everything, with α of 1e-3 for CUB and Aircraft
    and 1e-4 for Cars; with a weight decay the backbone rests between its pre-trained weights and zero.
    """

    name: Literal["l2_sp"] = "l2_sp"
    alpha: NonNegativeFloat = 0.01
    """Weight of ½‖w − w⁰‖² over the backbone."""
    beta: NonNegativeFloat = 0.01
    """Weight of ½‖w‖² over the target head."""
    include: Literal["all", "weights"] = "all"
    """Parameters of the backbone that α applies to; `weights` leaves out biases and the parameters of normalisation
    layers. Running statistics are never penalised."""


class L2SP(Method):
    """L2 penalty on the distance of the backbone from its pre-trained weights, and of the target head from zero.

    Terms: α·½‖w − w⁰‖² over the backbone and β·½‖w‖² over the target head. Both are sums over elements, not means, and
    part of the loss, not of the optimiser's step.
    """

    Config = L2SPConfig
    config: L2SPConfig
    is_recordable = True

    def __init__(self, config: L2SPConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.held = held_parameters(student.backbone, config)
        self.start = frozen_copy(nn.ParameterList(self.held), context.kept, "start")

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        terms = {"target_label": self.target_loss(self.student(inputs).target_logits, targets)}
        if self.config.alpha:
            terms["drift"] = self.config.alpha * half_squared_distance(self.held, self.start)
        if self.config.beta:
            head = list(self.student.target_head.parameters())
            terms["head_decay"] = self.config.beta * half_squared_distance(head, map(torch.zeros_like, head))
        return terms

    def extra_modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"start": self.start})


def held_parameters(backbone: nn.Module, config: L2SPConfig) -> list[nn.Parameter]:
    """The parameters that α applies to, in the backbone's order."""
    if config.alpha == 0:
        return []
    return [w for w in backbone.parameters() if config.include == "all" or w.ndim > 1]


def half_squared_distance(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> Tensor:
    """½ Σ (ours − theirs)², with a finite gradient if they are equal.

    One fused kernel a tensor: of a ResNet-50 it takes a third of the time that torch's foreach functions take, whose
    intermediate results autograd keeps (33 and 104 ms, one CPU core).
    """
    return 0.5 * torch.stack([F.mse_loss(w, v, reduction="sum") for w, v in zip(ours, theirs, strict=True)]).sum()
