from __future__ import annotations

import gc
import weakref

import numpy as np
import torch

from trainables.data.gpu_pixels import GpuPixelCache, gpu_budget_bytes
from trainables.data.images import LabelledImages

CPU = torch.device("cpu")


def test_one_copy_for_all_selections(images: LabelledImages) -> None:
    on_device = GpuPixelCache(lambda device: 10**9)
    copy = on_device.get(images.pixels, CPU)
    assert copy is not None
    np.testing.assert_array_equal(copy.numpy(), images.pixels)
    assert on_device.get(images.take([3]).pixels, CPU) is copy


def test_what_does_not_fit_stays_on_the_host(images: LabelledImages) -> None:
    asked: list[torch.device] = []

    def too_little(device: torch.device) -> int:
        asked.append(device)
        return images.pixels.nbytes - 1

    on_device = GpuPixelCache(too_little)
    assert on_device.get(images.pixels, CPU) is None
    assert on_device.get(images.pixels, CPU) is None
    assert asked == [CPU]


def test_the_copy_goes_with_the_array() -> None:
    on_device = GpuPixelCache(lambda device: 10**9)
    pixels = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    copy = on_device.get(pixels, CPU)
    assert copy is not None
    alive = weakref.ref(copy)
    del pixels, copy
    gc.collect()
    assert alive() is None


def test_nothing_is_copied_from_host_to_host() -> None:
    assert gpu_budget_bytes(CPU) == 0
