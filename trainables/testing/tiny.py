"""Networks small enough to be trained within a test, of the shapes that real ones have.

Three target classes, five source classes; images are 8×8.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from trainables.backbones.network import Backbone, ImageBackbone, TransferNetwork
from trainables.methods import MethodContext
from trainables.methods.losses import CROSS_ENTROPY, TargetLoss
from trainables.seeding import rng_for, torch_seeded
from trainables.types import Batch, CompileMode

NUM_CLASSES = 3
NUM_SOURCE_CLASSES = 5
NUM_TOKENS = 11
CPU = torch.device("cpu")


class TinyConv(ImageBackbone):
    """Two convolutions with BatchNorm: images N×3×8×8 → map N×6×4×4."""

    num_features = 6
    stages = ("stem", "stage")

    def __init__(self) -> None:
        super().__init__(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stage(self.stem(embedded))
        return features, features.mean(dim=(2, 3))


class TinyAffine(ImageBackbone):
    """One convolution and nothing after it: an affine map, which mixing goes through unchanged."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(embedded)
        return features, features.mean(dim=(2, 3))


class TinyTokens(Backbone):
    """Word embeddings and one layer: token ids N×T → map N×T×6."""

    num_features = 6
    stages = ("layer.0", "layer.2")

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(NUM_TOKENS, 6)
        self.layer = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU())

    def embed(self, inputs: Tensor) -> Tensor:
        embedded: Tensor = self.words(inputs)
        return embedded

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layer(embedded)
        return features, features.mean(dim=1)


def tiny_network(
    seed: int = 1, source_head: bool = True, dropout: float = 0.0, kind: type[Backbone] = TinyConv
) -> TransferNetwork:
    """A "pre-trained" network in the default dtype, with updated BatchNorm statistics and a source head."""
    with torch_seeded(seed, "tiny"):
        backbone = kind()
        backbone.head_dropout = dropout
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                _give_a_past(module)
        head = nn.Linear(backbone.num_features, NUM_SOURCE_CLASSES)
    return TransferNetwork(backbone, head if source_head else None, NUM_CLASSES, seed).to(torch.get_default_dtype())


@torch.no_grad()
def _give_a_past(norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.weight.uniform_(0.5, 1.5)
    norm.bias.uniform_(-0.5, 0.5)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)


def tiny_batch(step: int = 1, count: int = 6, tokens: bool = False) -> Batch:
    """The batch of `step`, the same one whenever it is asked for; the classes are as frequent as each other."""
    rng = rng_for(0, "tiny batch", step)
    raw = rng.integers(0, NUM_TOKENS, (count, 4)) if tokens else rng.integers(0, 256, (count, 3, 8, 8), dtype="uint8")
    labels = rng.permutation(torch.arange(count).numpy() % NUM_CLASSES)
    index = rng.choice(24, count, replace=False)
    second = None if tokens else torch.from_numpy(rng.integers(0, 256, raw.shape, dtype="uint8"))
    return Batch(torch.from_numpy(raw), torch.from_numpy(labels), torch.from_numpy(index), step, second)


def tiny_pass(tokens: bool = False) -> Iterable[Batch]:
    """One pass over a training set of 24 examples in the evaluation view."""
    for start in range(0, 24, 8):
        batch = tiny_batch(1000 + start, 8, tokens)
        yield Batch(batch.inputs, batch.labels, torch.arange(start, start + 8), 0)


def tiny_context(
    num_steps: int = 8, seed: int = 7, compile: CompileMode = "none", target_loss: TargetLoss = CROSS_ENTROPY
) -> MethodContext:
    """The facts of a training on the tiny data."""
    return MethodContext(
        seed=seed,
        num_steps=num_steps,
        steps_per_epoch=4,
        num_classes=NUM_CLASSES,
        num_examples=24,
        compile=compile,
        target_loss=target_loss,
    )
