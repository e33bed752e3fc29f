"""DELTA: feature-map regularisation with attention (Li et al., ICLR 2019, https://arxiv.org/abs/1901.09229)."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from trainables.backbones.network import BackboneFacts, TransferNetwork
from trainables.errors import BadInput, Problem
from trainables.methods.base import Batches, Method, MethodContext
from trainables.methods.channel_attention import (
    BATCH_SIZE,
    Layer,
    attention,
    captured,
    last_layers,
    loss_increases,
    train_head,
)
from trainables.methods.l2_sp import half_squared_distance
from trainables.methods.losses import full_precision
from trainables.methods.mixing import MixableConfig, mixed
from trainables.methods.teacher import frozen_copy
from trainables.seeding import rng_for
from trainables.types import Batch, LossTerms

FEATURE_MAP = "features"
"""Key of the final feature map in `Delta.attention`, which the `authors` form compares."""


class DeltaConfig(MixableConfig):
    """Settings of DELTA. α and β are those of the authors' code, which also has `training.weight_decay: 0`.

    α depends on the `form`: for a map of C channels the official form weighs it C/2 times as much. In both forms the
    term is a sum over the batch, and grows with its size.
    """

    name: Literal["delta"] = "delta"
    form: Literal["official", "authors"] = "official"
    """`official`: the last layers of several stages, before normalisation, each weighted by its number of channels, and
    β. `authors`, as in the SMILE authors' code: the feature map alone, without that factor, without ½ and β."""
    alpha: NonNegativeFloat = 0.01
    """Weight of the squared distance of the feature maps."""
    beta: NonNegativeFloat | None = None
    """Weight of ½‖w‖² over the target head. None: 0.01 for `official`, 0 for `authors`."""
    num_layers: PositiveInt = 4
    """Number of last stages that the official form compares; all stages if there are fewer."""
    attention: Literal["computed", "uniform"] = "computed"
    """Weights of the channels: by the increase of the loss without the filter, or equal."""
    attention_images: PositiveInt = 64
    """Number of training images on which the increase is measured. The authors take 128 to 256, at two to four times
    the cost."""
    attention_head_steps: PositiveInt = 1000
    """Number of steps for which a head is trained before, about the authors' ten epochs of CUB. Features are computed
    once, without augmentation and with the pre-trained BatchNorm statistics, which change during the authors' epochs.
    """

    @property
    def head_decay(self) -> float:
        """β, with the default of the form filled in."""
        return self.beta if self.beta is not None else {"official": 0.01, "authors": 0.0}[self.form]

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        lacks_stages = self.alpha > 0 and not backbone.num_stages
        return super().missing_in(backbone) + (["known stages, whose last layers it compares"] if lacks_stages else [])


class Delta(Method):
    """Fine-tuning with a penalty on the change of the feature maps, weighted by channel attention.

    The term is α·Σ_b Σ_c w_c·‖ΔF_bc‖²/(H·W) (times C/2 in the official form), with ΔF the difference of the feature
    maps of the student and of the pre-trained network on the same input, mixed or not, and w_c the attention: how much
    the loss on the target task rises if the pre-trained network lacks the filter of channel c. It is not zero even at
    step 0: the student normalises by the batch, the source by its running statistics. The last layer of a stage is its
    last convolution, or linear layer in transformers.
    """

    uses_forward_hooks = True
    Config = DeltaConfig
    config: DeltaConfig
    is_recordable = True

    def __init__(self, config: DeltaConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.source = frozen_copy(student, context.kept, "source") if config.alpha else None
        self.attention: dict[str, Tensor] = {}
        """Layer (or `FEATURE_MAP`) → weights C of its channels, which sum to 1. Set by `prepare`, part of the state."""

    def prepare(self, batches: Batches) -> None:
        """Measures the attention. It does not change the student, and is not repeated after `load_state_dict`."""
        if self.source is not None:
            self.attention = measure_attention(self.config, self.source, batches, self.context)

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        layers = [name for name in self.attention if name != FEATURE_MAP]
        with captured(self.student.backbone, layers) as student_maps:
            outputs = self.student(inputs)
        terms = {"target_label": self.target_loss(outputs.target_logits, targets)}
        if self.source is not None:
            with torch.no_grad(), captured(self.source.backbone, layers) as source_maps:
                source_features, _ = self.source.backbone(inputs)
            student_maps[FEATURE_MAP], source_maps[FEATURE_MAP] = outputs.features, source_features
            distances = [self._distance(name, student_maps[name], source_maps[name]) for name in self.attention]
            terms["feature"] = self.config.alpha * torch.stack(distances).sum()
        if self.config.head_decay:
            head = list(self.student.target_head.parameters())
            terms["head_decay"] = self.config.head_decay * half_squared_distance(head, map(torch.zeros_like, head))
        return terms

    def _distance(self, layer: str, student_map: Tensor, source_map: Tensor) -> Tensor:
        """Σ_b Σ_c w_c·‖ΔF_bc‖²/(H·W), in the official form times C/2: a sum over the batch, not a mean."""
        is_map = layer == FEATURE_MAP or isinstance(self.student.backbone.get_submodule(layer), nn.Conv2d)
        dim = 1 if is_map and student_map.ndim == 4 else -1
        weights_C = self.attention[layer]
        squares = (full_precision(student_map) - full_precision(source_map)).square()
        squares_C = squares.sum(dim=[d for d in range(student_map.ndim) if d != dim % student_map.ndim])
        num_positions = student_map.numel() / (len(student_map) * len(weights_C))
        factor = len(weights_C) / 2 if self.config.form == "official" else 1.0
        return factor / num_positions * (weights_C * squares_C).sum()  # no product of matrices: autocast would round it

    def extra_modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"source": self.source} if self.source is not None else {})

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "attention": dict(self.attention)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        device = self.student.target_head.weight.device
        self.attention = {layer: weights.to(device) for layer, weights in state["attention"].items()}


def measure_attention(
    config: DeltaConfig, source: TransferNetwork, batches: Batches, context: MethodContext
) -> dict[str, Tensor]:
    """Measures the channel weights C of each layer (or of `FEATURE_MAP`) that `config` compares.

    The filters removed are those of the compared layer, or of the last layer before the feature map. Raises BadInput if
    the feature map does not have a channel for each of these filters.
    """
    example = source.embed(next(iter(batches())).inputs)[:1]
    layers = last_layers(source.backbone, example)
    if config.form == "official":
        compared = {layer.name: layer for layer in layers[-config.num_layers :]}
    else:
        compared = {FEATURE_MAP: layers[-1]}
        _require_a_filter_for_each_channel(source, example, layers[-1])
    if config.attention == "uniform":
        return {name: example.new_full((n,), 1 / n) for name, (_, _, n) in compared.items()}

    head, images, labels = _trained_head_and_images(config, source, batches, context)
    weights: dict[str, Tensor] = {}
    for name, layer in compared.items():
        parts = zip(torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True)
        rises = [len(y) * loss_increases(source.backbone, head, layer, source.embed(x), y) for x, y in parts]
        weights[name] = attention(torch.stack(rises).sum(dim=0) / len(labels))
    return weights


@torch.no_grad()
def _require_a_filter_for_each_channel(source: TransferNetwork, example: Tensor, layer: Layer) -> None:
    features, _ = source.backbone(example)
    num_channels = features.shape[1 if features.ndim == 4 else -1]
    if layer.num_filters != num_channels:  # if maps are concatenated (DenseNet)
        expected = "official where the feature map's channels are not the last layer's filters"
        raise BadInput(Problem("method.form", expected, f"{num_channels} channels, {layer.num_filters} filters"))


def _trained_head_and_images(
    config: DeltaConfig, source: TransferNetwork, batches: Batches, context: MethodContext
) -> tuple[nn.Linear, Tensor, Tensor]:
    """A target head trained on the features of the training set, and the images to measure on with their labels.

    The images are drawn at (seed, "delta", "images").
    """
    order = rng_for(context.seed, "delta", "images").permutation(context.num_examples)
    is_chosen = torch.zeros(context.num_examples, dtype=torch.bool)
    is_chosen[torch.from_numpy(order[: config.attention_images])] = True
    pooled, labels, images, image_labels = [], [], [], []
    for batch in batches():
        with torch.no_grad():
            pooled.append(source.backbone(source.embed(batch.inputs))[1])
        labels.append(batch.labels)
        picked = is_chosen.to(batch.index.device)[batch.index]
        images.append(batch.inputs[picked])
        image_labels.append(batch.labels[picked])
    head = copy.deepcopy(source.target_head).requires_grad_(True)
    train_head(head, torch.cat(pooled), torch.cat(labels), config.attention_head_steps, context.seed)
    return head, torch.cat(images), torch.cat(image_labels)
