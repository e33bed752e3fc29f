"""Manifold mixup: blend hidden representations and labels (Verma et al., 2019, https://arxiv.org/abs/1806.05236)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.network import BackboneFacts
from trainables.methods.base import Method, MethodConfig
from trainables.methods.losses import cross_entropy, full_precision, one_hot
from trainables.methods.mixing import Mix, MixAlpha, draw_mix
from trainables.seeding import rng_for
from trainables.types import Batch, LossTerms


class ManifoldMixupConfig(MethodConfig):
    """Defaults are the authors': α from their README, layers from their code (input, first and second stage)."""

    name: Literal["manifold_mixup"] = "manifold_mixup"
    alpha: MixAlpha = 2.0
    deepest_layer: NonNegativeInt = 2
    """Each batch is mixed at a layer drawn from 0 (the input) to this one, ℓ ≥ 1 being the output of the backbone's
    ℓ-th stage. 0 is mixup."""
    loss: Literal["cross_entropy", "bce_softmax"] = "cross_entropy"
    """`bce_softmax`: binary cross-entropy of the softmax probabilities, a mean over classes too, as the authors' code
    has it; by about the number of classes smaller."""

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        if self.deepest_layer <= backbone.num_stages:
            return []
        return [f"a backbone of at least {self.deepest_layer} stages (`deepest_layer: {self.deepest_layer}`)"]


class ManifoldMixup(Method):
    """Manifold mixup: mixup of the inputs or of a hidden layer, drawn for each batch.

    The draw of λ and of the partners is mixup's own; the depth has an address beside it. We minimise soft
    cross-entropy, where the authors' code takes binary cross-entropy (`loss`).
    """

    looks_inside = True
    Config = ManifoldMixupConfig
    config: ManifoldMixupConfig

    def loss(self, batch: Batch) -> LossTerms:
        mix = draw_mix(len(batch.labels), self.config.alpha, batch.labels.device, self.context.seed, batch.step)
        embedded = self.student.embed(batch.inputs)
        layer = draw_layer(self.config.deepest_layer, self.context.seed, batch.step)
        if layer == 0:
            seen = self.student(mix.blend(embedded))
        else:
            backbone = self.student.backbone
            with output_blended(backbone.get_submodule(backbone.stages[layer - 1]), mix):
                seen = self.student(embedded)
        distance = cross_entropy if self.config.loss == "cross_entropy" else bce_of_softmax
        labels_NK = one_hot(batch.labels, self.context.num_classes)
        return {"target_label": distance(seen.target_logits, mix.blend(labels_NK))}


def draw_layer(deepest: int, seed: int, step: int) -> int:
    """Uniform from 0 to `deepest`, both included; its address is (seed, "mix_layer", step)."""
    return int(rng_for(seed, "mix_layer", step).integers(deepest + 1))


@contextmanager
def output_blended(module: nn.Module, mix: Mix) -> Iterator[None]:
    """Inside the block, what `module` gives is blended before anybody sees it."""
    handle = module.register_forward_hook(lambda _, __, output: mix.blend(output))
    try:
        yield
    finally:
        handle.remove()


def bce_of_softmax(logits_NK: Tensor, target_NK: Tensor) -> Tensor:
    """Mean over batch and classes of −t·log p − (1−t)·log(1−p), p = softmax(logits)."""
    with torch.autocast(logits_NK.device.type, enabled=False):
        probabilities = full_precision(logits_NK).softmax(dim=1)
        return F.binary_cross_entropy(probabilities, target_NK.to(probabilities.dtype))
