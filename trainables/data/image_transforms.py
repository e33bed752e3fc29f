"""Augmentations of torchvision (transforms.v2), drawn for each image of a batch: resized crops, colours, erasing.

torchvision draws from torch's global generator, one set of parameters a call. Each kind of transform is therefore
called image by image, with the generator seeded for the batch at an address of that kind: its draws are the same in
every process and after a resume, whether or not other kinds are on. See docs/decisions/0039.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainables.data.config import DataConfig
from trainables.seeding import Address, torch_seeded

Transform = Callable[[Tensor], Tensor]
"""Function from one image, uint8 3×H×W, to another, with draws from torch's global generator."""

ERASED = (124, 116, 104)
"""Colour of an erased rectangle: the mean of ImageNet, close to 0 after the normalisation of a pre-trained network, as
in torchvision's own training, which erases after it."""


def resized_crop(config: DataConfig) -> Transform:
    """The crop that is `random_resized`: random area and aspect ratio, resized to `size_px` with antialiasing."""
    from torchvision.transforms import v2  # takes a second, and the default view needs nothing of it

    aspects = (1 / config.crop_aspect, config.crop_aspect)
    crop: Transform = v2.RandomResizedCrop(config.size_px, scale=(config.crop_area, 1.0), ratio=aspects)
    return crop


def transforms_of(config: DataConfig, device: torch.device) -> dict[str, Transform]:
    """The transforms that follow crop and flip, in their order, by the purpose in the address of their draws.

    They take images on `device`, of whose kinds each has the faster implementation: on the CPU, `auto_augment` is
    computed by Pillow, which takes half the time of tensors; the draws are the same. On a GPU it waits for the device
    once or twice an image: torchvision copies the matrix of each geometric operation from the host.

    >>> cpu = torch.device("cpu")
    >>> list(transforms_of(DataConfig(dataset="digits", erasing=0.5, color_jitter=0.4), cpu))
    ['color_jitter', 'erasing']
    >>> transforms_of(DataConfig(dataset="digits"), cpu)
    {}
    """
    if not changes_pixels(config):
        return {}
    from torchvision.transforms import v2

    transforms: dict[str, Transform] = {}
    if config.color_jitter:
        strength = config.color_jitter
        transforms["color_jitter"] = v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)
    if config.auto_augment != "none":
        is_rand = config.auto_augment == "rand_augment"
        operations = v2.RandAugment(magnitude=config.auto_augment_magnitude) if is_rand else v2.TrivialAugmentWide()
        transforms["auto_augment"] = _by_pillow(operations) if device.type == "cpu" else operations
    if config.erasing:
        transforms["erasing"] = _erasing(config.erasing, device)
    return transforms


def changes_pixels(config: DataConfig) -> bool:
    """Whether training images are changed beyond crop and flip."""
    return bool(config.color_jitter or config.erasing or config.auto_augment != "none")


def _erasing(probability: float, device: torch.device) -> Transform:
    """RandomErasing with its colour on `device`. torchvision's is on the host, from where a copy waits for a GPU."""
    from torchvision.transforms import v2

    erasing = v2.RandomErasing(p=probability, value=ERASED)
    draw = erasing.make_params

    def make_params(images: list[Any]) -> dict[str, Any]:
        params: dict[str, Any] = draw(images)
        return params if params["v"] is None else params | {"v": _erased_colour(device)}

    erasing.make_params = make_params
    transform: Transform = erasing
    return transform


@cache
def _erased_colour(device: torch.device) -> Tensor:
    return torch.tensor(ERASED, dtype=torch.float32, device=device)[:, None, None]


def _by_pillow(transform: Callable[[Image.Image], Image.Image]) -> Transform:
    """Applies `transform` to the image as one of Pillow's."""

    def on_tensor(image_CHW: Tensor) -> Tensor:
        image = Image.fromarray(image_CHW.permute(1, 2, 0).numpy())
        return torch.from_numpy(np.array(transform(image))).permute(2, 0, 1)

    return on_tensor


def apply_to_each(transform: Transform, images_NHWC: Tensor, size_px: int, seed: int, *address: Address) -> Tensor:
    """Applies `transform`, whose results are size_px×size_px, to each image of uint8 N×H×W×3 in turn, on its device.

    Draws are at (seed, "augment", *address). torch's global generators are left as they were.
    """
    transformed = images_NHWC.new_empty((len(images_NHWC), size_px, size_px, 3))
    with torch_seeded(seed, "augment", *address):
        for target, image in zip(transformed, images_NHWC, strict=True):
            target.copy_(transform(image.permute(2, 0, 1)).permute(1, 2, 0))
    return transformed
