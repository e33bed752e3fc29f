"""Comparing a cut model with the whole one, part by part."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.backbones.architecture import Architecture, Parts
from trainables.seeding import torch_seeded


def images(num: int = 2, size: int = 64) -> Tensor:
    """Normalised-looking inputs N×3×H×W."""
    return torch.randn(num, 3, size, size, generator=torch.Generator().manual_seed(0))


def whole_and_parts(architecture: Architecture, num_classes: int = 7) -> tuple[nn.Module, Parts]:
    """The same random weights twice: as the library builds them, and cut."""
    with torch_seeded(0, "backbone"):
        model = architecture.blank(num_classes)
        head = model.get_submodule(architecture.classifier)
        nn.init.normal_(head.weight)  # some classifiers start at zero, which would make any logits equal
    return model, architecture.cut(copy.deepcopy(model))


def logits(parts: Parts, x: Tensor) -> Tensor:
    assert parts.source_head is not None
    pooled = parts.backbone(x)[1]
    return parts.source_head(F.dropout(pooled, parts.backbone.head_dropout, parts.backbone.training))


def assert_same_logits(whole: nn.Module, parts: Parts, x: Tensor, *, training: bool) -> None:
    """Compares logits; in training mode, both networks have to draw in the same order."""
    whole.train(training)
    parts.backbone.train(training)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = whole(x)
        torch.manual_seed(1)
        got = logits(parts, x)
    assert got.std() > 0
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
