"""The sizes of images that a backbone takes, found out on the meta device: shapes alone, without memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from trainables.backbones.architecture import blank_on_meta
from trainables.backbones.network import Backbone
from trainables.backbones.registry import find_architecture
from trainables.errors import BadInput, Problem

USUAL_SIZES_PX = (32, 64, 128, 224, 256, 384, 512)
"""Sizes that published networks are made for, or often used with."""
STRIDES_PX = (14, 16, 32)
"""Sides of the patches and strides of the networks that take multiples of them alone."""
NUM_NAMED = 4
"""Sizes that a message names."""


def check_image_size(name: str, size_px: int) -> None:
    """Checks that the backbone `name` takes images of `size_px`.

    Raises:
        BadInput: of `size_px`, with the nearest sizes that it takes; and where there is no such model.
    """
    if takes_size(name, size_px):
        return
    taken = list(itertools.islice((size for size in _sizes_near(size_px) if takes_size(name, size)), NUM_NAMED))
    if taken:  # else the shapes of this network cannot be found out so
        nearest = ", ".join(map(str, sorted(taken)))
        raise BadInput(Problem("size_px", f"a size of images that {name} takes, as {nearest}", str(size_px)))


@lru_cache(maxsize=256)
def takes_size(name: str, size_px: int) -> bool:
    """Whether features of images of `size_px` can be computed: a map that is not empty, and pooled features.

    >>> takes_size("torchvision/vit_b_16", 224), takes_size("torchvision/vit_b_16", 64)
    (True, False)
    """
    backbone = _backbone_on_meta(name)
    try:
        with torch.no_grad():
            features, pooled = backbone(torch.empty(2, 3, size_px, size_px, device="meta"))
    except Exception:  # each layer that an image is too small for fails in its own way
        return False
    return isinstance(features, Tensor) and features.numel() > 0 and pooled.shape[0] == 2


@lru_cache(maxsize=2)
def _backbone_on_meta(name: str) -> Backbone:
    architecture = find_architecture(name)
    return architecture.cut(blank_on_meta(architecture)).backbone.eval()


def _sizes_near(size_px: int) -> list[int]:
    """Sizes to try, the nearest to `size_px` first."""
    return sorted(set(_candidates(size_px)), key=lambda size: (abs(size - size_px), size))


def _candidates(size_px: int) -> Iterator[int]:
    yield from USUAL_SIZES_PX
    for stride in STRIDES_PX:
        below = size_px - size_px % stride
        yield from (size for size in (below, below + stride) if size > 0)
