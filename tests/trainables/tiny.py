"""The tiny networks, which come with the package: see `trainables.testing.tiny`."""

from __future__ import annotations

from torch import Tensor

from trainables.backbones.network import TransferNetwork
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
from trainables.types import Outputs

__all__ = [
    "CPU",
    "NUM_CLASSES",
    "NUM_SOURCE_CLASSES",
    "NUM_TOKENS",
    "TinyAffine",
    "TinyConv",
    "TinyTokens",
    "Unfolded",
    "tiny_batch",
    "tiny_context",
    "tiny_network",
    "tiny_pass",
]


class Unfolded:
    """Stands in for a FoldedNetwork: the network as it is."""

    def __init__(self, network: TransferNetwork) -> None:
        self.network = network

    def __call__(self, inputs: Tensor, embedded: Tensor) -> Outputs:
        outputs: Outputs = self.network(self.network.embed(inputs))
        return outputs

    def forget(self) -> None:
        pass
