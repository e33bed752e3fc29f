"""Interface of backbones, and the network of a backbone with a target head and a source head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from trainables.seeding import torch_seeded
from trainables.types import Outputs, Tokenize


class Backbone(nn.Module, ABC):
    """A pre-trained feature extractor without its classifier.

    `num_features` is D, the number of pooled features. `head_dropout` is the dropout probability of the architecture
    between pooling and classifier (0 if it has none). `stages` names the submodules whose outputs are those of the
    stages, earliest first; each is called once in a forward pass, and its output is all that the rest of the network
    reads of what came before, so a forward hook can replace it. The output of the last one is the feature map (before a
    permutation to N×C×H×W, if there is one). Empty if the stages are unknown. `tokenizer` converts texts to token ids;
    None for backbones of images.
    """

    num_features: int
    head_dropout: float = 0.0
    stages: tuple[str, ...] = ()
    tokenizer: Tokenize | None = None

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """Converts raw inputs to the first representation that can be mixed: normalised images, or word embeddings.

        It is one tensor with everything that `forward` reads, so that mixing it mixes the whole input.
        """

    @abstractmethod
    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the feature map before pooling and the pooled features N×D of embedded inputs."""

    def stage_index(self, parameter: str) -> int:
        """Stage of the parameter of that name, counted from 1; 0 is the stem, before the first stage.

        Parameters between two stages belong to the later one, those after the last stage to the last. Modules are
        assumed to be registered in the order of execution.
        """
        modules = [name for name, _ in self.named_modules()]
        owner = modules.index(parameter.rpartition(".")[0])
        if not self.stages or owner < modules.index(self.stages[0]):
            return 0
        ends = [max(i for i, name in enumerate(modules) if f"{name}.".startswith(f"{s}.")) for s in self.stages]
        return min(1 + sum(end < owner for end in ends), len(ends))


class ImageBackbone(Backbone):
    """Backbone for images N×3×H×W in 0…255, normalised by `mean` and `std` (of values in [0, 1])."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean_C11", 255 * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", 255 * torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.mean_C11: Tensor
        self.std_C11: Tensor

    def embed(self, inputs: Tensor) -> Tensor:
        """Normalises images; for channels-last memory, as in batches, row by row instead of pixel by pixel.

        An inner loop over three channels would take five times as long on the CPU.
        """
        rows_NHWC = inputs.permute(0, 2, 3, 1)
        if not rows_NHWC.is_contiguous():
            return (inputs - self.mean_C11) / self.std_C11
        mean, std = (each.flatten().repeat(inputs.shape[-1]) for each in (self.mean_C11, self.std_C11))
        normalised = (rows_NHWC.flatten(2) - mean).div_(std)
        return normalised.view(rows_NHWC.shape).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class BackboneFacts:
    """Properties of a backbone that methods may require; `name` is that of the configuration."""

    name: str
    takes_images: bool
    num_stages: int
    has_batch_norm: bool

    @classmethod
    def of(cls, backbone: Backbone, name: str) -> Self:
        """Reads the properties of a backbone, which may be on the meta device."""
        return cls(
            name=name,
            takes_images=isinstance(backbone, ImageBackbone),
            num_stages=len(backbone.stages),
            has_batch_norm=any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()),
        )

    def __str__(self) -> str:
        takes, norm = "images" if self.takes_images else "tokens", "" if self.has_batch_norm else "no "
        return f"{self.name!r} (of {takes}, {self.num_stages} stages, {norm}BatchNorm)"


class Predictor(Protocol):
    """What predictions are made by: a network, or an ensemble of networks."""

    @property
    def backbone(self) -> Backbone:
        """The backbone, or the first of several, whose tokenizer converts texts."""
        ...

    def eval(self) -> object:
        """Sets every module to evaluation mode."""
        ...

    def embed(self, inputs: Tensor) -> Tensor:
        """Converts raw inputs to the input of a call."""
        ...

    def __call__(self, embedded: Tensor) -> Outputs:
        """Computes the outputs, of which `target_logits` are read."""
        ...


class TransferNetwork(nn.Module):
    """Network for transfer learning: embed → backbone → target head and source head.

    The target head is new, drawn at the address (seed, "target_head"), so that it does not depend on the source head.
    The source head is the pre-trained classifier, or None if the method does not use it or the backbone has none.
    """

    def __init__(self, backbone: Backbone, source_head: nn.Linear | None, num_classes: int, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(backbone.head_dropout)
        self.target_head = new_target_head(backbone.num_features, num_classes, seed)
        self.source_head = source_head

    def embed(self, inputs: Tensor) -> Tensor:
        """Converts raw inputs to the representation that can be mixed; see `Backbone.embed`."""
        return self.backbone.embed(inputs)

    def forward(self, embedded: Tensor) -> Outputs:
        features, pooled = self.backbone(embedded)
        headed = self.dropout(pooled)
        source_logits = self.source_head(headed) if self.source_head is not None else None
        return Outputs(features, pooled, self.target_head(headed), source_logits)


def new_target_head(num_features: int, num_classes: int, seed: int) -> nn.Linear:
    """Draws a target head at the address (seed, "target_head")."""
    with torch_seeded(seed, "target_head"):
        return nn.Linear(num_features, num_classes)


@contextmanager
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Sets every part of `module` to evaluation mode inside the block, and back to its own mode after it."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
