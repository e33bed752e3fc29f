"""Photographs through torchvision's transforms and PyTorch's DataLoader, as in the tutorial on transfer learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.peers.photographs import PhotoTask, Split
from trainables.backbones import ImageBackbone, TransferNetwork

LOADER_WORKERS = 2

View = Callable[[Image.Image], Tensor]
Batches = DataLoader[tuple[Tensor, int]]


class Photographs(Dataset[tuple[Tensor, int]]):
    """The images of a split, decoded whenever they are asked for."""

    def __init__(self, split: Split, view: View) -> None:
        self._split, self._view = split, view

    def __len__(self) -> int:
        return len(self._split.files)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        with Image.open(self._split.files[number]) as image:
            return self._view(image.convert("RGB")), self._split.labels[number]


def batches_of(split: Split, view: View, batch_size: int, **given: Any) -> Batches:
    """A loader with the tutorial's workers; `given` are further arguments of DataLoader."""
    return DataLoader(
        Photographs(split, view),
        batch_size=batch_size,
        num_workers=LOADER_WORKERS,
        persistent_workers=True,
        multiprocessing_context="fork",
        **given,
    )


def plain_view(network: TransferNetwork, task: PhotoTask) -> View:
    """The centre of the resized image, normalised as the network expects it."""
    shown = [transforms.Resize(task.stored_px), transforms.CenterCrop(task.size_px)]
    view: View = transforms.Compose([*shown, *_normalised(network)])
    return view


def augmented_view(network: TransferNetwork, task: PhotoTask) -> View:
    """A random part of the image, mirrored or not."""
    shown = [transforms.RandomResizedCrop(task.size_px), transforms.RandomHorizontalFlip()]
    view: View = transforms.Compose([*shown, *_normalised(network)])
    return view


def mean_and_std_of(network: TransferNetwork) -> tuple[list[float], list[float]]:
    """By which the network's inputs are normalised, for values in [0, 1]."""
    backbone = network.backbone
    assert isinstance(backbone, ImageBackbone)
    mean, std = ((each.flatten() / 255).tolist() for each in (backbone.mean_C11, backbone.std_C11))
    return mean, std


def default_device() -> torch.device:
    """A graphics card where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _normalised(network: TransferNetwork) -> list[Any]:
    return [transforms.ToTensor(), transforms.Normalize(*mean_and_std_of(network))]
