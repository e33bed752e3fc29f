"""The one verb of mixup and its descendants: blend a batch with a shuffled copy of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from trainables.seeding import rng_for

MixAlpha = Annotated[float, Field(ge=1e-3, le=100)]
"""Parameter of Beta(α, α). Far below 1e-3 the draw is 0/0 in floating point; plain fine-tuning is the limit."""


@dataclass(frozen=True)
class Mix:
    """One mixing draw, shared by everything of a batch that is mixed: inputs, labels, features.

    `weight` is λ in [½, 1]; `partner` N says with which example each one is blended. Folding λ to ≥ ½ changes no
    expectation (loss(λ, π) = loss(1−λ, π⁻¹)) and lets the first label be the dominant one.
    """

    weight: float
    partner: Tensor

    def blend(self, x: Tensor) -> Tensor:
        """λ·x + (1−λ)·x[partner] along the first dimension."""
        return torch.lerp(x[self.partner], x, self.weight)


def draw_mix(num_examples: int, alpha: float, device: torch.device, seed: int, step: int) -> Mix:
    """λ ~ Beta(alpha, alpha), one for the batch, and a uniform permutation; its address is (seed, "mix", step)."""
    rng = rng_for(seed, "mix", step)
    weight = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(num_examples)).to(device)
    return Mix(weight=max(weight, 1 - weight), partner=partner)
