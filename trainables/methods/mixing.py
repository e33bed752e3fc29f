"""Mixup and CutMix of a batch with a permutation of itself, and the `mixing` settings by which other methods use them.

All draws of a step come from the address (seed, "mix", step): `l2` with `mixing: mixup` has the inputs of `mixup`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from trainables.backbones.network import BackboneFacts
from trainables.methods.base import MethodConfig, MethodContext
from trainables.methods.losses import one_hot
from trainables.seeding import rng_for
from trainables.step_values import StepValues
from trainables.types import Batch

MixAlpha = Annotated[
    float, Field(ge=1e-3, le=100, description="α of Beta(α, α), from which the share of the example itself is drawn.")
]
"""Parameter of Beta(α, α). Far below 1e-3 the draw is 0/0 in floating point; plain fine-tuning is the limit."""

CutProbability = Annotated[
    float, Field(gt=0, le=1, description="Share of the batches that CutMix is applied to; the others stay as they are.")
]
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

    weight: float | Tensor
    partner: Tensor

    def blend(self, x: Tensor) -> Tensor:
        """λ·x + (1−λ)·x[partner] along the first dimension."""
        if not isinstance(self.weight, Tensor):
            return torch.lerp(x[self.partner], x, self.weight)
        exact = torch.promote_types(x.dtype, torch.float32)  # in which `lerp` computes with a number, too
        return torch.lerp(x[self.partner].to(exact), x.to(exact), self.weight.to(exact)).to(x.dtype)


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


@dataclass(frozen=True)
class MaskedCut:
    """A `Cut` whose box is a mask H×W, so that operations on it have the same shapes whatever the box."""

    box: Tensor
    labels: Mix

    def paste(self, images_NCHW: Tensor) -> Tensor:
        """A copy of images N×C×H×W with the box of each filled from its partner."""
        return torch.where(self.box, images_NCHW[self.labels.partner], images_NCHW)


def draw_mix(
    num_examples: int, alpha: float, device: torch.device, seed: int, step: int, values: StepValues | None = None
) -> Mix:
    """Draws λ ~ Beta(alpha, alpha), one for the batch, and a uniform permutation.

    λ is folded to [½, 1]: that changes no expectation (loss(λ, π) = loss(1−λ, π⁻¹)) and lets the first label dominate.
    With `values` both are tensors, for any step that is recorded with this one.
    """
    if values is not None:
        draw = partial(_weight_and_partner, num_examples, alpha, seed)
        return Mix(values.tensor(lambda at: draw(at)[0]), values.tensor(lambda at: draw(at)[1]))
    weight, partner = _weight_and_partner(num_examples, alpha, seed, step)
    return Mix(weight, torch.from_numpy(partner).to(device, non_blocking=True))


@lru_cache(maxsize=2)  # weight and partner are asked for one after the other
def _weight_and_partner(num_examples: int, alpha: float, seed: int, step: int) -> tuple[float, NDArray[np.int64]]:
    rng = rng_for(seed, "mix", step)
    weight = float(rng.beta(alpha, alpha))
    return max(weight, 1 - weight), rng.permutation(num_examples)


def draw_cut(images_NCHW: Tensor, alpha: float, probability: float, seed: int, step: int) -> Cut:
    """Draws a box with sides √(1−λ) of the image's, λ ~ Beta(alpha, alpha), around a uniform centre, clipped.

    It reaches ⌊side/2⌋ to either side of its centre, so that an odd side loses a pixel, as in the authors' code. With
    probability 1 − `probability` it is empty. λ is not folded to [½, 1], as the complement of a box is no box.
    """
    box = _drawn_box(tuple(images_NCHW.shape), alpha, probability, seed, step)
    partner = torch.from_numpy(box.partner).to(images_NCHW.device, non_blocking=True)
    return Cut(box.rows, box.columns, labels=Mix(box.weight, partner))


def draw_masked_cut(images_NCHW: Tensor, alpha: float, probability: float, seed: int, values: StepValues) -> MaskedCut:
    """The draw of `draw_cut` for any step that is recorded with the present one."""
    shape = tuple(images_NCHW.shape)
    draw = partial(_drawn_box, shape, alpha, probability, seed)

    def mask(step: int) -> NDArray[np.bool_]:
        inside = np.zeros(shape[2:], np.bool_)
        inside[draw(step).rows, draw(step).columns] = True
        return inside

    weight, partner = values.tensor(lambda step: draw(step).weight), values.tensor(lambda step: draw(step).partner)
    return MaskedCut(values.tensor(mask), Mix(weight, partner))


class _Box(NamedTuple):
    rows: slice
    columns: slice
    weight: float
    partner: NDArray[np.int64]


@lru_cache(maxsize=2)
def _drawn_box(shape: tuple[int, ...], alpha: float, probability: float, seed: int, step: int) -> _Box:
    num_examples, _, height, width = shape
    rng = rng_for(seed, "mix", step)
    side = math.sqrt(1 - rng.beta(alpha, alpha))
    partner = rng.permutation(num_examples)
    row, column = int(rng.integers(height)), int(rng.integers(width))
    if rng.random() >= probability:
        side = 0.0
    rows, columns = _clipped(row, int(height * side), height), _clipped(column, int(width * side), width)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return _Box(rows, columns, 1 - area / (height * width), partner)


def _clipped(centre: int, side: int, size: int) -> slice:
    return slice(max(centre - side // 2, 0), min(centre + side // 2, size))


class MixableConfig(MethodConfig):
    """Base of the configurations of methods that can be combined with mixup or CutMix (SMILE, Figure 3).

    The method is then applied to mixed inputs. Defaults are those of the SMILE authors' code.
    """

    mixing: Literal["none", "mixup", "cutmix"] = "none"
    """What the inputs and targets of the method are mixed by."""
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
            address = (embedded.device, context.seed, batch.step, batch.values)
            mix = draw_mix(len(embedded), config.mixing_alpha, *address)
            return Mixed(mix.blend(embedded), mix.blend(one_hot(batch.labels, context.num_classes)))
        case "cutmix":
            settings = (config.mixing_alpha, config.cutmix_probability, context.seed)
            cut: Cut | MaskedCut = (
                draw_cut(embedded, *settings, batch.step)
                if batch.values is None
                else draw_masked_cut(embedded, *settings, batch.values)
            )
            return Mixed(cut.paste(embedded), cut.labels.blend(one_hot(batch.labels, context.num_classes)))
