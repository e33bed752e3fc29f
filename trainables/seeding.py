"""Random draws with an address: a draw depends on its purpose, never on earlier draws.

`rng_for(seed, "mix", step)` is the same stream in every process, so that a new method, a resume at step 500 or folds in
another order change no other draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

Address = str | int
"""Part of the address of a draw: a purpose, a step, a number of a fold."""


def seed_for(seed: int, *address: Address) -> int:
    """A 63-bit seed for one purpose, equal in every process and on every platform.

    It is the BLAKE2b hash of `seed` and `address`.

    >>> seed_for(7, "folds")
    3957871970871087477
    >>> seed_for(7, "fold", 1) == seed_for(7, "fold", 2)
    False
    """
    parts = (f"str:{part}" if isinstance(part, str) else f"int:{int(part)}" for part in address)
    text = "\x1f".join([str(int(seed)), *parts])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rng_for(seed: int, *address: Address) -> np.random.Generator:
    """An independent NumPy generator for one purpose. Cheap enough (tens of µs) to be made at every step.

    >>> rng_for(7, "mix", 1).random() == rng_for(7, "mix", 1).random()
    True
    """
    return np.random.Generator(np.random.PCG64(seed_for(seed, *address)))


@contextmanager
def global_generators_restored() -> Iterator[None]:
    """Restores torch's global generators at the end of the block."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def torch_seeded(seed: int, *address: Address) -> Iterator[None]:
    """Seeds torch's global generators inside the block and restores them after it.

    For draws that only use the global generators, e.g. the initialisation of `nn.Linear`.
    """
    with global_generators_restored():
        torch.manual_seed(seed_for(seed, *address))
        yield
