"""A backbone with two heads: one for the task at hand, one for the task that it was pre-trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from trainables.seeding import torch_seeded
from trainables.types import Outputs


class Backbone(nn.Module, ABC):
    """A pre-trained feature extractor without its classifier.

    `num_features` is D, the width that a head reads. `head_dropout` is the dropout probability that the architecture
    applies between pooling and its classifier (0 where it has none).
    """

    num_features: int
    head_dropout: float = 0.0

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """Raw inputs → the first representation that can be mixed: normalised images, or word embeddings."""

    @abstractmethod
    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded inputs → (feature map before pooling, pooled features N×D)."""


class ImageBackbone(Backbone):
    """A backbone for images; embedding an image is normalising it with the statistics of its pre-training."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean_C11", 255 * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", 255 * torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.mean_C11: Tensor
        self.std_C11: Tensor

    def embed(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean_C11) / self.std_C11


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
