"""DELTA: keep the feature maps that matter where they were (Li et al., 2019, https://arxiv.org/abs/1901.09229)."""

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
from trainables.methods.losses import cross_entropy, full_precision
from trainables.methods.mixing import MixableConfig, mixed
from trainables.methods.teacher import frozen_copy
from trainables.seeding import rng_for
from trainables.types import Batch, LossTerms

FEATURE_MAP = "features"
"""What the authors' form compares instead of layers."""


class DeltaConfig(MixableConfig):
    """α and β are the defaults of the authors' code, which sets `training.weight_decay: 0` beside them.

    α belongs to the `form`: for a map of C channels α means C/2 times as much in the official one. Both grow with the
    batch, over which they sum.
    """

    name: Literal["delta"] = "delta"
    form: Literal["official", "authors"] = "official"
    """`official`: the last layers of several stages, before normalisation, each weighed by its number of channels, and
    β. `authors`, as the SMILE authors' code has it: the feature map alone, without that factor, ½ or β."""
    alpha: NonNegativeFloat = 0.01
    """Weight of the distance of feature maps."""
    beta: NonNegativeFloat | None = None
    """Weight of ½‖w‖² over the target head. None: the form's own, 0.01 (official) or 0 (authors)."""
    num_layers: PositiveInt = 4
    """How many of the last stages the official form compares; all, where there are fewer."""
    attention: Literal["computed", "uniform"] = "computed"
    """Weight of a channel: how much the loss rises without its filter, or the same for all."""
    attention_images: PositiveInt = 64
    """Training images on which that rise is measured. The authors take 128 to 256, at as many times the cost."""
    attention_head_steps: PositiveInt = 1000
    """Steps that a head is trained for before; about the authors' ten epochs of CUB. Cheap: features are computed once,
    without augmentation and with the pre-trained BatchNorm statistics, which in theirs drift meanwhile."""

    @property
    def head_decay(self) -> float:
        """β in effect."""
        return self.beta if self.beta is not None else {"official": 0.01, "authors": 0.0}[self.form]

    def missing_in(self, backbone: BackboneFacts) -> list[str]:
        lacks_stages = self.alpha > 0 and not backbone.num_stages
        return super().missing_in(backbone) + (["known stages, whose last layers matter"] if lacks_stages else [])


class Delta(Method):
    """Fine-tuning with a penalty on the change of the feature maps, weighted by channel attention.

    Student and pre-trained network see the same input, mixed or not; the squared distance of their feature maps is
    weighed channel by channel, by how much the pre-trained network needs the channel for the target task. It is not
    zero even at step 0: the student normalises by the batch's statistics, the source by its own. The "last layer" of a
    stage is its last convolution, or linear layer in transformers.
    """

    looks_inside = True
    Config = DeltaConfig
    config: DeltaConfig

    def __init__(self, config: DeltaConfig, student: TransferNetwork, context: MethodContext) -> None:
        super().__init__(config, student, context)
        self.source = frozen_copy(student) if config.alpha else None
        self.attention: dict[str, Tensor] = {}
        """Layer (or `FEATURE_MAP`) → the weights of its channels, which sum to 1. Measured by `prepare`, then state."""

    def prepare(self, batches: Batches) -> None:
        """Nothing here changes the student, and nothing has to be done again after `load_state_dict`."""
        if self.source is not None:
            self.attention = measure_attention(self.config, self.source, batches, self.context)

    def loss(self, batch: Batch) -> LossTerms:
        inputs, targets = mixed(self.config, self.student.embed(batch.inputs), batch, self.context)
        layers = [name for name in self.attention if name != FEATURE_MAP]
        with captured(self.student.backbone, layers) as seen:
            outputs = self.student(inputs)
        terms = {"target_label": cross_entropy(outputs.target_logits, targets)}
        if self.source is not None:
            with torch.no_grad(), captured(self.source.backbone, layers) as taught:
                taught_features, _ = self.source.backbone(inputs)
            seen[FEATURE_MAP], taught[FEATURE_MAP] = outputs.features, taught_features
            distances = [self._distance(name, seen[name], taught[name]) for name in self.attention]
            terms["feature"] = self.config.alpha * torch.stack(distances).sum()
        if self.config.head_decay:
            head = list(self.student.target_head.parameters())
            terms["head_decay"] = self.config.head_decay * half_squared_distance(head, map(torch.zeros_like, head))
        return terms

    def _distance(self, layer: str, seen: Tensor, taught: Tensor) -> Tensor:
        """Σ_b Σ_c w_c·‖ΔF_bc‖²/(H·W), in the official form times C/2: a sum over the batch, not a mean."""
        is_map = layer == FEATURE_MAP or isinstance(self.student.backbone.get_submodule(layer), nn.Conv2d)
        dim = 1 if is_map and seen.ndim == 4 else -1
        weights_C = self.attention[layer]
        squares = (full_precision(seen) - full_precision(taught)).square()
        squares_C = squares.sum(dim=[d for d in range(seen.ndim) if d != dim % seen.ndim])
        num_positions = seen.numel() / (len(seen) * len(weights_C))
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
    """The weights of the channels of everything that `config` compares; the layer by whose filters they are measured
    is the compared one, or the last one before the feature map."""
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
    if layer.num_filters != num_channels:  # where maps are concatenated (DenseNet)
        expected = "must be official where the feature map's channels are not the last layer's filters"
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
