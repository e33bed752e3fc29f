"""Mixup and CutMix of a batch with a permutation of itself, and the `mixing` settings by which other methods use them.

All draws of a step come from the address (seed, "mix", step): `l2` with `mixing: mixup` has the inputs of `mixup`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from trainables.backbones.network import BackboneFacts
from trainables.methods.base import MethodConfig, MethodContext
from trainables.methods.losses import one_hot
from trainables.seeding import rng_for
from trainables.types import Batch

MixAlpha = Annotated[float, Field(ge=1e-3, le=100)]
"""Parameter of Beta(α, α). Far below 1e-3 the draw is 0/0 in floating point; plain fine-tuning is the limit."""

CutProbability = Annotated[float, Field(gt=0, le=1)]
"""Share of the batches that CutMix is applied to; the others stay as they are."""

CUTMIX_NEED = "a backbone of images, to cut boxes from"
"""What CutMix requires of a backbone, as a method and as `mixing: cutmix`."""


@dataclass(frozen=True)
class Mix:
    """One mixup draw, shared by all tensors of a batch that are mixed: inputs, labels, features.

    `weight` is λ, the share of the example itself; `partner` N holds the position of the example that it is blended
    with.

    >>> mix = Mix(weight=0.75, partner=torch.tensor([1, 0]))
    >>> mix.blend(torch.tensor([[0.0], [4.0]])).tolist()
    [[1.0], [3.0]]
    """

    weight: float
    partner: Tensor

    def blend(self, x: Tensor) -> Tensor:
        """λ·x + (1−λ)·x[partner] along the first dimension."""
        return torch.lerp(x[self.partner], x, self.weight)


@dataclass(frozen=True)
class Cut:
    """One CutMix draw: a box, the same for every image of the batch, that is filled from the partner image.

    `labels` blends the labels by area: its weight is 1 − box area/(H·W), with the box clipped at the borders.
    """

    rows: slice
    columns: slice
    labels: Mix

    def paste(self, images_NCHW: Tensor) -> Tensor:
        """A copy of images N×C×H×W with the box of each filled from its partner."""
        pasted = images_NCHW.clone()
        pasted[..., self.rows, self.columns] = images_NCHW[self.labels.partner][..., self.rows, self.columns]
        return pasted


def draw_mix(num_examples: int, alpha: float, device: torch.device, seed: int, step: int) -> Mix:
    """Draws λ ~ Beta(alpha, alpha), one for the batch, and a uniform permutation.

    λ is folded to [½, 1]: that changes no expectation (loss(λ, π) = loss(1−λ, π⁻¹)) and lets the first label dominate.
    """
    rng = rng_for(seed, "mix", step)
    weight = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(num_examples)).to(device, non_blocking=True)
    return Mix(weight=max(weight, 1 - weight), partner=partner)


def draw_cut(images_NCHW: Tensor, alpha: float, probability: float, seed: int, step: int) -> Cut:
    """Draws a box with sides √(1−λ) of the image's, λ ~ Beta(alpha, alpha), around a uniform centre, clipped.

    It reaches ⌊side/2⌋ to either side of its centre, so that an odd side loses a pixel, as in the authors' code. With
    probability 1 − `probability` it is empty. λ is not folded to [½, 1], as the complement of a box is no box.
    """
    num_examples, _, height, width = images_NCHW.shape
    rng = rng_for(seed, "mix", step)
    side = math.sqrt(1 - rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(num_examples)).to(images_NCHW.device, non_blocking=True)
    row, column = int(rng.integers(height)), int(rng.integers(width))
    if rng.random() >= probability:
        side = 0.0
    rows, columns = _clipped(row, int(height * side), height), _clipped(column, int(width * side), width)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Cut(rows, columns, labels=Mix(weight=1 - area / (height * width), partner=partner))


def _clipped(centre: int, side: int, size: int) -> slice:
    return slice(max(centre - side // 2, 0), min(centre + side // 2, size))


class MixableConfig(MethodConfig):
    """Base of the configurations of methods that can be combined with mixup or CutMix (SMILE, Figure 3).

    The method is then applied to mixed inputs. Defaults are those of the SMILE authors' code.
    """

    mixing: Literal["none", "mixup", "cutmix"] = "none"
    mixing_alpha: MixAlpha = 0.2
    cutmix_probability: CutProbability = 0.5

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        cannot_cut = self.mixing == "cutmix" and not backbone.takes_images
        return [f"{CUTMIX_NEED} (`mixing: cutmix`)"] if cannot_cut else []


class Mixed(NamedTuple):
    """Embedded inputs, and the target for `cross_entropy`: labels N, or blended one-hot rows N×K."""

    inputs: Tensor
    targets: Tensor


def mixed(config: MixableConfig, embedded: Tensor, batch: Batch, context: MethodContext) -> Mixed:
    """Mixes the embedded inputs of `batch` and its labels as `config` says. `embedded` itself is not changed."""
    match config.mixing:
        case "none":
            return Mixed(embedded, batch.labels)
        case "mixup":
            mix = draw_mix(len(embedded), config.mixing_alpha, embedded.device, context.seed, batch.step)
            return Mixed(mix.blend(embedded), mix.blend(one_hot(batch.labels, context.num_classes)))
        case "cutmix":
            cut = draw_cut(embedded, config.mixing_alpha, config.cutmix_probability, context.seed, batch.step)
            return Mixed(cut.paste(embedded), cut.labels.blend(one_hot(batch.labels, context.num_classes)))
