"""The tiny networks, which come with the package: see `trainables.testing.tiny`."""

from __future__ import annotations

from trainables.testing.tiny import (
    CPU,
    NUM_CLASSES,
    NUM_SOURCE_CLASSES,
    NUM_TOKENS,
    TinyAffine,
    TinyConv,
    TinyTokens,
    tiny_batch,
    tiny_context,
    tiny_network,
    tiny_pass,
)

__all__ = [
    "CPU",
    "NUM_CLASSES",
    "NUM_SOURCE_CLASSES",
    "NUM_TOKENS",
    "TinyAffine",
    "TinyConv",
    "TinyTokens",
    "tiny_batch",
    "tiny_context",
    "tiny_network",
    "tiny_pass",
]
