"""Batches as a function of the step: batch `step` of a training is the same in every process and after a resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.augmentation import View, cut_on_device, cut_on_host, flipped
from trainables.data.config import DataConfig
from trainables.data.examples import Inputs
from trainables.data.gpu_pixels import GpuPixelCache, gpu_budget_bytes
from trainables.data.image_transforms import apply_to_each, resized_crop, transforms_of
from trainables.data.images import Ints, LabelledImages
from trainables.data.texts import TokenisedTexts
from trainables.seeding import Address, rng_for
from trainables.types import Batch

_GPU_PIXELS = GpuPixelCache(gpu_budget_bytes)

BATCHES_IN_A_WINDOW = 16
"""Number of batches in a window of an epoch, within which texts are batched by length."""


def training_batch(
    inputs: Inputs,
    config: DataConfig,
    batch_size: int,
    seed: int,
    step: int,
    device: torch.device,
    num_views: int = 1,
) -> Batch:
    """The batch of optimiser step `step` (from 1) on `device`; images are augmented, twice with `num_views=2`.

    Each epoch is a new permutation, whose last, incomplete batch is dropped; fewer examples than `batch_size` are one
    batch. Texts of one batch have similar lengths. The first view does not depend on `num_views`.
    """
    epoch, place = divmod(step - 1, steps_per_epoch(len(inputs), batch_size))
    taken = slice(place * batch_size, (place + 1) * batch_size)
    if isinstance(inputs, TokenisedTexts):
        assert num_views == 1, "texts have one view"  # methods with two views declare that they need images
        return _text_batch(inputs, _order_by_length(inputs, batch_size, seed, epoch)[taken], step, device)
    positions = _epoch_order(seed, epoch, len(inputs))[taken]
    view = partial(_training_view, inputs, positions, config, device, seed, step)
    batch = Batch(view(), *_labels(inputs, positions, device), step)
    return batch if num_views == 1 else replace(batch, second_inputs=view("second"))


def evaluation_batches(inputs: Inputs, config: DataConfig, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Batches of every example once, in order, images as centre crops; the last batch may be smaller."""
    for start in range(0, len(inputs), batch_size):
        positions = np.arange(start, min(start + batch_size, len(inputs)))
        if isinstance(inputs, TokenisedTexts):
            yield _text_batch(inputs, positions, 0, device)
        else:
            view = View.centre(len(positions), _stored(inputs), config.size_px)
            images_NCHW = _cut(inputs, positions, view, device).permute(0, 3, 1, 2)
            yield Batch(images_NCHW, *_labels(inputs, positions, device), 0)


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Number of full batches in `num_examples`, at least one."""
    return max(1, num_examples // batch_size)


@lru_cache(maxsize=8)
def _epoch_order(seed: int, epoch: int, num_images: int) -> Ints:
    order = rng_for(seed, "order", epoch).permutation(num_images)
    order.flags.writeable = False  # shared by all callers
    return order


@lru_cache(maxsize=8)
def _order_by_length(texts: TokenisedTexts, batch_size: int, seed: int, epoch: int) -> Ints:
    """The permutation of images, sorted by length within windows, with the resulting batches in random order.

    An epoch drops the same examples as without sorting, so that all lengths are equally frequent.
    """
    num_batches = steps_per_epoch(len(texts), batch_size)
    rng = rng_for(seed, "order", epoch)
    order = rng.permutation(len(texts))[: num_batches * batch_size]
    size = BATCHES_IN_A_WINDOW * batch_size
    windows = (order[start : start + size] for start in range(0, len(order), size))
    by_length = np.concatenate([window[np.argsort(texts.lengths[window], kind="stable")] for window in windows])
    batches = by_length.reshape(num_batches, -1)[rng.permutation(num_batches)].reshape(-1)
    batches.flags.writeable = False
    return batches


def _stored(images: LabelledImages) -> tuple[int, int]:
    return images.pixels.shape[1], images.pixels.shape[2]


def _text_batch(texts: TokenisedTexts, positions: Ints, step: int, device: torch.device) -> Batch:
    return Batch(_uploaded(texts.rows(positions), device), *_labels(texts, positions, device), step)


def _labels(inputs: Inputs, positions: Ints, device: torch.device) -> tuple[Tensor, Tensor]:
    labels, places = torch.from_numpy(np.stack([inputs.labels[positions], positions])).to(device, non_blocking=True)
    return labels, places


def _training_view(
    images: LabelledImages, positions: Ints, config: DataConfig, device: torch.device, seed: int, *address: Address
) -> Tensor:
    """Augments the images at `positions` to uint8 N×3×S×S on `device`; all draws are below (seed, "augment", *address).

    Crop and flip are drawn by NumPy in one go, other augmentations by torchvision, each at an address of its own.
    """
    crop_at_random = config.crop == "random"
    size_px, shape = config.size_px, _stored(images)
    view = View.random(len(positions), shape, size_px, crop_at_random, config.flip, seed, *address)
    if config.crop == "random_resized":
        stored = _stored_pixels(images, positions, device)
        batch_NHWC = flipped(apply_to_each(resized_crop(config), stored, size_px, seed, *address, "crop"), view)
    else:
        batch_NHWC = _cut(images, positions, view, device)
    for purpose, transform in transforms_of(config, device).items():
        batch_NHWC = apply_to_each(transform, batch_NHWC, size_px, seed, *address, purpose)
    return batch_NHWC.permute(0, 3, 1, 2)


def _stored_pixels(images: LabelledImages, positions: Ints, device: torch.device) -> Tensor:
    """Copies the whole images at `positions`, uint8 N×H×W×3, to a new tensor on `device`."""
    index = images.index[positions]
    on_device = _GPU_PIXELS.get(images.pixels, device)
    if on_device is None:
        return _uploaded(images.pixels[index], device)
    return on_device[torch.from_numpy(index).to(device, non_blocking=True)]


def _uploaded(values: NDArray[Any], device: torch.device) -> Tensor:
    """Copies a new array of any size to `device`. From memory that is not page-locked, a GPU is waited for."""
    on_host = torch.from_numpy(values)
    return (on_host.pin_memory() if device.type == "cuda" else on_host).to(device, non_blocking=True)


def _cut(images: LabelledImages, positions: Ints, view: View, device: torch.device) -> Tensor:
    """Crops the images at `positions` to uint8 N×S×S×3 on `device`. Copies are queued, so that no step waits."""
    index = images.index[positions]
    on_device = _GPU_PIXELS.get(images.pixels, device)
    if on_device is None:
        return cut_on_host(images.pixels, index, view, pinned=device.type == "cuda").to(device, non_blocking=True)
    return cut_on_device(on_device, index, view)
