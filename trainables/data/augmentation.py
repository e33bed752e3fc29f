"""Augmentation by crops and horizontal flips of a batch in training; centre crops in evaluation.

The draws can be applied row by row on the host, or in one gather on the device of the pixels, with the same result.
Further augmentations, with which a user may follow or replace these, are in `trainables.data.image_transforms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.images import Ints, Pixels
from trainables.seeding import Address, rng_for


@dataclass(frozen=True, eq=False)
class View:
    """Crop and flip of each of N images: the square of side `size` at (`top` N, `left` N), flipped if `mirrored` N."""

    size: int
    top: Ints
    left: Ints
    mirrored: NDArray[np.bool_]

    @classmethod
    def centre(cls, count: int, stored: tuple[int, int], size: int) -> View:
        """Centre crops of `count` images of size `stored` (H, W)."""
        top, left = ((side - size) // 2 for side in stored)
        return cls(size, np.full(count, top), np.full(count, left), np.zeros(count, dtype=np.bool_))

    @classmethod
    def random(
        cls, count: int, stored: tuple[int, int], size: int, crop: bool, flip: bool, seed: int, *address: Address
    ) -> View:
        """Draws at (seed, "augment", *address). Unused ones are drawn as well: the crops do not depend on `flip`."""
        rng = rng_for(seed, "augment", *address)
        top, left = (rng.integers(0, side - size + 1, count) for side in stored)
        mirrored = rng.random(count) < 0.5
        centre = cls.centre(count, stored, size)
        return cls(
            size, top if crop else centre.top, left if crop else centre.left, mirrored if flip else centre.mirrored
        )


def cut_on_host(pixels: Pixels, index: Ints, view: View, pinned: bool = False) -> Tensor:
    """Crops `pixels[index]` to a new host tensor uint8 N×S×S×3, in page-locked memory if `pinned`."""
    cut = torch.empty((len(index), view.size, view.size, 3), dtype=torch.uint8, pin_memory=pinned)
    rows = zip(index.tolist(), view.top.tolist(), view.left.tolist(), view.mirrored.tolist(), strict=True)
    for target, (i, top, left, mirrored) in zip(cut.numpy(), rows, strict=True):
        square = pixels[i, top : top + view.size, left : left + view.size]
        if mirrored:
            _copy_mirrored(square, target)
        else:
            target[...] = square
    return cut


def _copy_mirrored(square: Pixels, target: Pixels) -> None:
    """Copies channel by channel, a quarter of the time of NumPy's inner loop over three channels."""
    for channel in range(3):
        target[..., channel] = square[:, ::-1, channel]


def cut_on_device(pixels: Tensor, index: Ints, view: View) -> Tensor:
    """Crops `pixels[index]` to a new tensor uint8 N×S×S×3 on the device of `pixels` M×H×W×3."""
    addresses = torch.from_numpy(np.stack([index, view.top, view.left, view.mirrored]).astype(np.int64))
    image, top, left, mirrored = addresses.to(pixels.device, non_blocking=True)
    offset = torch.arange(view.size, device=pixels.device)
    row = top[:, None] + offset
    column = left[:, None] + torch.where(mirrored[:, None] > 0, view.size - 1 - offset, offset)
    return pixels[image[:, None, None], row[:, :, None], column[:, None, :]]


def flipped(images_NHWC: Tensor, view: View) -> Tensor:
    """Flips the images that `view` mirrors, uint8 N×H×W×3, in place."""
    mirrored = torch.from_numpy(np.flatnonzero(view.mirrored)).to(images_NHWC.device, non_blocking=True)
    images_NHWC[mirrored] = images_NHWC[mirrored].flip(2)
    return images_NHWC
