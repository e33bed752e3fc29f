"""Cache of pixel arrays in GPU memory, so that a training step transfers indices instead of images."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from trainables.data.images import Pixels

SHARE_OF_FREE_MEMORY = 0.25
UPLOAD_IMAGES = 256


class GpuPixelCache:
    """Device copies of the pixel arrays that fit the budget; a copy is freed with its array.

    `budget` returns the bytes that a device can spare; it is called once for each array.
    """

    def __init__(self, budget: Callable[[torch.device], int]) -> None:
        self._budget = budget
        self._copies: dict[tuple[int, torch.device], Tensor | None] = {}

    def get(self, pixels: Pixels, device: torch.device) -> Tensor | None:
        """The copy of `pixels` M×H×W×3 on `device`, or None if it does not fit the budget."""
        key = (id(pixels), device)
        if key not in self._copies:
            self._copies[key] = upload(pixels, device) if pixels.nbytes <= self._budget(device) else None
            weakref.finalize(pixels, self._copies.pop, key, None).atexit = False
        return self._copies[key]


def upload(pixels: Pixels, device: torch.device) -> Tensor:
    """Copies `pixels` to `device` in parts, each copied on the host first, as torch does not take read-only arrays."""
    copy = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(pixels), UPLOAD_IMAGES):
        part = slice(start, start + UPLOAD_IMAGES)
        copy[part] = torch.from_numpy(pixels[part].copy())
    return copy


def gpu_budget_bytes(device: torch.device) -> int:
    """A quarter of the bytes that this process may still allocate on a GPU; 0 on other devices."""
    if device.type != "cuda":
        return 0
    index = torch.cuda.current_device() if device.index is None else device.index
    free, total = torch.cuda.mem_get_info(index)
    allowed = int(torch.cuda.get_per_process_memory_fraction(index) * total) - torch.cuda.memory_allocated(index)
    return int(SHARE_OF_FREE_MEMORY * min(free, allowed))
