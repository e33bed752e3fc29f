"""RIFLE: repeated re-initialisation of the head (Li et al., ICML 2020, https://arxiv.org/abs/2007.03349)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from trainables.methods.base import Method
from trainables.methods.mixing import MixableConfig, mixed
from trainables.seeding import torch_seeded
from trainables.types import Batch, LossTerms


class RifleConfig(MixableConfig):
    """Settings of RIFLE. Two periods, hence one re-initialisation, are those of the authors' script, and of the SMILE
    authors' script for CUB."""

    name: Literal["rifle"] = "rifle"
    num_periods: PositiveInt = 2
    """Number of equal parts of the training, each of which starts with a new head. 1 is plain fine-tuning."""

    def restarts(self, num_steps: int) -> list[int]:
        """Optimiser steps (from 1) after which the head is re-initialised: round(j·num_steps/num_periods), 1 ≤ j <
        num_periods, without the last step of the training.

        >>> RifleConfig(num_periods=3).restarts(num_steps=9000)
        [3000, 6000]
        """
        ends = [round(j * num_steps / self.num_periods) for j in range(1, self.num_periods)]
        return [end for end in ends if end < num_steps]


class Rifle(Method):
    """Fine-tuning that re-initialises the target head at the end of each period of training but the last.

    The head is replaced after the optimiser's step, and the momentum is kept, as in both codes. The authors' code
    re-initialises once more after the last period, and the SMILE authors' code shortly before the end if the number of
    periods does not divide the number of steps; neither happens here. The authors' option of a cyclic learning rate for
    the head (off by default) is left out.
    """

    Config = RifleConfig
    config: RifleConfig
    is_recordable = True
    draws_new_heads = True

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        return {"target_label": self.target_loss(self.student(inputs).target_logits, targets)}

    def after_step(self, step: int) -> None:
        restarts = self.config.restarts(self.context.num_steps)
        if step in restarts:
            reinitialise(self.student.target_head, self.context.seed, count=restarts.index(step) + 1)


@torch.no_grad()
def reinitialise(head: nn.Linear, seed: int, count: int) -> None:
    """Draws the weights of a new head in place, on the CPU, at the address (seed, "rifle", count)."""
    with torch_seeded(seed, "rifle", count):
        fresh = nn.Linear(head.in_features, head.out_features)
    head.weight.copy_(fresh.weight)
    head.bias.copy_(fresh.bias)
