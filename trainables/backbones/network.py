"""A backbone with two heads: one for the task at hand, one for the task that it was pre-trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from trainables.seeding import torch_seeded
from trainables.types import Outputs, Tokenize


class Backbone(nn.Module, ABC):
    """A pre-trained feature extractor without its classifier.

    `num_features` is D, the width that a head reads. `head_dropout` is the dropout probability that the architecture
    applies between pooling and its classifier (0 where it has none). `stages` names the submodules whose outputs are
    the stages' outputs, earliest first; each is called once in a forward pass, and what a forward hook on one returns
    is all that the rest of the network sees of what came before. The last one's output is the feature map (before a
    permutation to N×C×H×W, where there is one). Empty where none are known. `tokenizer` makes ids of texts; None for
    backbones of images.
    """

    num_features: int
    head_dropout: float = 0.0
    stages: tuple[str, ...] = ()
    tokenizer: Tokenize | None = None

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """Raw inputs → the first representation that can be mixed: normalised images, or word embeddings.

        One tensor that holds all that `forward` reads, so that whoever mixes it mixes everything.
        """

    @abstractmethod
    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded inputs → (feature map before pooling, pooled features N×D)."""

    def stage_index(self, parameter: str) -> int:
        """The stage that a parameter of that name belongs to, counted from 1; 0 is the stem, before the first stage.

        What lies between two stages belongs to the later one, what comes after the last to the last. Modules are taken
        to be registered in the order in which they are run.
        """
        modules = [name for name, _ in self.named_modules()]
        owner = modules.index(parameter.rpartition(".")[0])
        if not self.stages or owner < modules.index(self.stages[0]):
            return 0
        ends = [max(i for i, name in enumerate(modules) if f"{name}.".startswith(f"{s}.")) for s in self.stages]
        return min(1 + sum(end < owner for end in ends), len(ends))


class ImageBackbone(Backbone):
    """A backbone for images; embedding an image is normalising it with the statistics of its pre-training."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean_C11", 255 * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", 255 * torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.mean_C11: Tensor
        self.std_C11: Tensor

    def embed(self, inputs: Tensor) -> Tensor:
        """Whole rows of pixels at once where they lie so, as those of batches do: an inner loop of length three would
        take five times as long on the CPU."""
        rows_NHWC = inputs.permute(0, 2, 3, 1)
        if not rows_NHWC.is_contiguous():
            return (inputs - self.mean_C11) / self.std_C11
        mean, std = (each.flatten().repeat(inputs.shape[-1]) for each in (self.mean_C11, self.std_C11))
        normalised = (rows_NHWC.flatten(2) - mean).div_(std)
        return normalised.view(rows_NHWC.shape).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class BackboneFacts:
    """What a method may ask of a backbone before anything runs; `name` is what the user calls it."""

    name: str
    takes_images: bool
    num_stages: int
    has_batch_norm: bool

    @classmethod
    def of(cls, backbone: Backbone, name: str) -> Self:
        """The facts of a backbone as it is built, on any device."""
        return cls(
            name=name,
            takes_images=isinstance(backbone, ImageBackbone),
            num_stages=len(backbone.stages),
            has_batch_norm=any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()),
        )

    def __str__(self) -> str:
        takes, norm = "images" if self.takes_images else "tokens", "" if self.has_batch_norm else "no "
        return f"{self.name!r} (of {takes}, {self.num_stages} stages, {norm}BatchNorm)"


class TransferNetwork(nn.Module):
    """embed → backbone → target head and source head.

    The target head is fresh, drawn at the address (seed, "target_head") so that it does not depend on whether there is
    a source head. The source head is the pre-trained classifier, or None where the method has no use for it or the
    backbone has none.
    """

    def __init__(self, backbone: Backbone, source_head: nn.Linear | None, num_classes: int, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(backbone.head_dropout)
        with torch_seeded(seed, "target_head"):
            self.target_head = nn.Linear(backbone.num_features, num_classes)
        self.source_head = source_head

    def embed(self, inputs: Tensor) -> Tensor:
        """Raw inputs → what can be mixed; see `Backbone.embed`."""
        return self.backbone.embed(inputs)

    def forward(self, embedded: Tensor) -> Outputs:
        features, pooled = self.backbone(embedded)
        headed = self.dropout(pooled)
        source_logits = self.source_head(headed) if self.source_head is not None else None
        return Outputs(features, pooled, self.target_head(headed), source_logits)
