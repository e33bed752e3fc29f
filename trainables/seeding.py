"""Randomness with an address: a draw depends on what it is for, never on what was drawn before it.

`rng_for(seed, "mix", step)` is the same stream in every process, whatever else a trial does, so that adding a
method, resuming at step 500 or running folds in another order changes no other draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

Address = str | int


def seed_for(seed: int, *address: Address) -> int:
    """A 63-bit seed for one purpose, e.g. `seed_for(7, "folds")`; equal in every process and on every platform."""
    parts = (f"str:{part}" if isinstance(part, str) else f"int:{int(part)}" for part in address)
    text = "\x1f".join([str(int(seed)), *parts])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rng_for(seed: int, *address: Address) -> np.random.Generator:
    """An independent NumPy generator for one purpose. Cheap enough (tens of µs) to be made at every step."""
    return np.random.Generator(np.random.PCG64(seed_for(seed, *address)))


@contextmanager
def global_generators_restored() -> Iterator[None]:
    """Puts torch's global generators back as they were at the end of the block, so that a trial leaves no trace."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def torch_seeded(seed: int, *address: Address) -> Iterator[None]:
    """Seeds torch's global generators inside the block and restores them after it.

    For what can only draw from the global stream, e.g. `nn.Linear`'s initialisation.
    """
    with global_generators_restored():
        torch.manual_seed(seed_for(seed, *address))
        yield
