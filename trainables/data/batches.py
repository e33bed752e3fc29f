"""Batches by address: batch `step` of a training is the same whenever and wherever it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from trainables.data.config import DataConfig
from trainables.data.images import Ints, LabelledImages
from trainables.data.resident import ResidentPixels, cuda_budget
from trainables.data.views import View, cut_on_device, cut_on_host
from trainables.seeding import rng_for
from trainables.types import Batch

_RESIDENT = ResidentPixels(cuda_budget)


def training_batch(
    images: LabelledImages,
    config: DataConfig,
    batch_size: int,
    seed: int,
    step: int,
    device: torch.device,
    num_views: int = 1,
) -> Batch:
    """The batch of optimiser step `step` (from 1), augmented, with `num_views` of two once more and independently.

    Each epoch is a new permutation, whose last, incomplete batch is dropped; fewer images than `batch_size` are one
    batch. The first view is the same whether or not there is a second.
    """
    epoch, place = divmod(step - 1, steps_per_epoch(len(images), batch_size))
    positions = _epoch_order(seed, epoch, len(images))[place * batch_size : (place + 1) * batch_size]
    draws = (len(positions), _stored(images), config.size_px, config.crop, config.flip, seed, step)
    batch = _batch(images, positions, View.random(*draws), step, device)
    if num_views == 1:
        return batch
    return replace(batch, second_inputs=_inputs(images, positions, View.random(*draws, "second"), device))


def evaluation_batches(
    images: LabelledImages, config: DataConfig, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """Every image once, in order, as its centre crop; the last batch may be smaller."""
    for start in range(0, len(images), batch_size):
        positions = np.arange(start, min(start + batch_size, len(images)))
        view = View.centre(len(positions), _stored(images), config.size_px)
        yield _batch(images, positions, view, 0, device)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Full batches in `num_images`, at least one."""
    return max(1, num_images // batch_size)


@lru_cache(maxsize=8)
def _epoch_order(seed: int, epoch: int, num_images: int) -> Ints:
    order = rng_for(seed, "order", epoch).permutation(num_images)
    order.flags.writeable = False  # shared by all callers
    return order


def _stored(images: LabelledImages) -> tuple[int, int]:
    return images.pixels.shape[1], images.pixels.shape[2]


def _batch(images: LabelledImages, positions: Ints, view: View, step: int, device: torch.device) -> Batch:
    labels, places = torch.from_numpy(np.stack([images.labels[positions], positions])).to(device, non_blocking=True)
    return Batch(_inputs(images, positions, view, device), labels, places, step)


def _inputs(images: LabelledImages, positions: Ints, view: View, device: torch.device) -> Tensor:
    """Copies are queued (`non_blocking`), because waiting for them would be waiting for the step before."""
    index = images.index[positions]
    resident = _RESIDENT.get(images.pixels, device)
    if resident is None:
        cut = cut_on_host(images.pixels, index, view, pinned=device.type == "cuda").to(device, non_blocking=True)
    else:
        cut = cut_on_device(resident, index, view)
    return cut.permute(0, 3, 1, 2)
