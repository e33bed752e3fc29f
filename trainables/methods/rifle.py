"""RIFLE: re-initialise the head now and then, to stir the deep layers (Li et al., 2020, https://arxiv.org/abs/2007.03349)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from trainables.methods.base import Method
from trainables.methods.losses import cross_entropy
from trainables.methods.mixing import MixableConfig, mixed
from trainables.seeding import torch_seeded
from trainables.types import Batch, LossTerms


class RifleConfig(MixableConfig):
    """Two periods, hence one re-initialisation, are what the authors' script runs, and the SMILE authors' for CUB."""

    name: Literal["rifle"] = "rifle"
    num_periods: PositiveInt = 2
    """Equal parts of the budget, each of which starts with a fresh head. 1 is plain fine-tuning."""

    def restarts(self, num_steps: int) -> list[int]:
        """The optimiser steps (from 1) after which the head starts anew: round(j·num_steps/num_periods), the end of
        each period but the last. A training of fewer steps than periods never ends with a fresh head either."""
        ends = [round(j * num_steps / self.num_periods) for j in range(1, self.num_periods)]
        return [end for end in ends if end < num_steps]


class Rifle(Method):
    """Fine-tuning that re-initialises the target head at the end of each period of training but the last.

    The new head comes after the optimiser's step, and inherits its momentum: no code clears it. The authors' code
    re-initialises once more after the last period, and the SMILE authors' shortly before the end where the number of
    periods does not divide the budget: neither happens here. The authors' option of a cyclic learning rate for the head
    (off by default) is left out.
    """

    Config = RifleConfig
    config: RifleConfig

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        return {"target_label": cross_entropy(self.student(inputs).target_logits, targets)}

    def after_step(self, step: int) -> None:
        restarts = self.config.restarts(self.context.num_steps)
        if step in restarts:
            reinitialise(self.student.target_head, self.context.seed, count=restarts.index(step) + 1)


@torch.no_grad()
def reinitialise(head: nn.Linear, seed: int, count: int) -> None:
    """Fresh weights in place, as a new head would have; drawn on the CPU, at the address (seed, "rifle", count)."""
    with torch_seeded(seed, "rifle", count):
        fresh = nn.Linear(head.in_features, head.out_features)
    head.weight.copy_(fresh.weight)
    head.bias.copy_(fresh.bias)
