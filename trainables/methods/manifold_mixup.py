"""Manifold mixup (Verma et al., ICML 2019, https://arxiv.org/abs/1806.05236)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.network import BackboneFacts
from trainables.methods.base import Method, MethodConfig
from trainables.methods.losses import CROSS_ENTROPY, TargetLoss, full_precision, one_hot
from trainables.methods.mixing import Mix, MixAlpha, draw_mix
from trainables.seeding import rng_for
from trainables.types import Batch, LossTerms


class ManifoldMixupConfig(MethodConfig):
    """Settings of manifold mixup. Defaults: α of the authors' README, layers of their code (input, stages 1, 2)."""

    name: Literal["manifold_mixup"] = "manifold_mixup"
    alpha: MixAlpha = 2.0
    deepest_layer: NonNegativeInt = 2
    """Each batch is mixed at a layer drawn uniformly from 0 (the input) to this one; layer ℓ ≥ 1 is the output of the
    backbone's ℓ-th stage. 0 is mixup."""
    loss: Literal["cross_entropy", "bce_softmax"] = "cross_entropy"
    """`bce_softmax`: binary cross-entropy of the softmax probabilities, averaged over the classes as well, as in the
    authors' code; smaller by about the number of classes."""

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        if self.deepest_layer <= backbone.num_stages:
            return []
        return [f"a backbone of at least {self.deepest_layer} stages (`deepest_layer: {self.deepest_layer}`)"]


class ManifoldMixup(Method):
    """Manifold mixup: mixup of the inputs or of a hidden layer, drawn for each batch.

    With g_ℓ the network up to layer ℓ and f_ℓ the rest of it, the loss is CE(f_ℓ(λ·g_ℓ(x) + (1−λ)·g_ℓ(x[π])),
    λ·y + (1−λ)·y[π]), with the λ and π of mixup; ℓ has a random address of its own. The authors' code has binary
    cross-entropy instead (`loss`).
    """

    uses_forward_hooks = True
    Config = ManifoldMixupConfig
    config: ManifoldMixupConfig
    is_recordable = True

    def step_key(self, step: int) -> Hashable:
        return draw_layer(self.config.deepest_layer, self.context.seed, step)

    def loss(self, batch: Batch) -> LossTerms:
        address = (batch.labels.device, self.context.seed, batch.step, batch.values)
        mix = draw_mix(len(batch.labels), self.config.alpha, *address)
        embedded = self.student.embed(batch.inputs)
        layer = draw_layer(self.config.deepest_layer, self.context.seed, batch.step)
        if layer == 0:
            outputs = self.student(mix.blend(embedded))
        else:
            backbone = self.student.backbone
            with output_blended(backbone.get_submodule(backbone.stages[layer - 1]), mix):
                outputs = self.student(embedded)
        target_NK = mix.blend(one_hot(batch.labels, self.context.num_classes))
        if self.config.loss == "bce_softmax":
            return {"target_label": bce_of_softmax(outputs.target_logits, target_NK, self.target_loss)}
        return {"target_label": self.target_loss(outputs.target_logits, target_NK)}


def draw_layer(deepest: int, seed: int, step: int) -> int:
    """Draws a layer uniformly from 0 to `deepest`, both included, at the address (seed, "mix_layer", step)."""
    return int(rng_for(seed, "mix_layer", step).integers(deepest + 1))


@contextmanager
def output_blended(module: nn.Module, mix: Mix) -> Iterator[None]:
    """Blends the output of `module` inside the block."""
    handle = module.register_forward_hook(lambda _, __, output: mix.blend(output))
    try:
        yield
    finally:
        handle.remove()


def bce_of_softmax(logits_NK: Tensor, target_NK: Tensor, target_loss: TargetLoss = CROSS_ENTROPY) -> Tensor:
    """Mean over batch and classes of −t·log p − (1−t)·log(1−p), p = softmax(logits).

    Of `target_loss` it has the label smoothing, and the class weights as those of the examples.
    """
    with torch.autocast(logits_NK.device.type, enabled=False):
        probabilities = full_precision(logits_NK).softmax(dim=1)
        target_NK = target_NK.to(probabilities.dtype)
        weights_N1 = target_loss.example_weights(target_NK)
        return F.binary_cross_entropy(probabilities, target_loss.smoothed(target_NK), weights_N1)
