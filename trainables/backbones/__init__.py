"""Pre-trained networks, brought to one shape: embed → features → target head and source head."""

from trainables.backbones.network import Backbone, BackboneFacts, ImageBackbone, TransferNetwork
from trainables.backbones.registry import build_network, check_backbone, describe, facts_about, list_backbones

__all__ = [
    "Backbone",
    "BackboneFacts",
    "ImageBackbone",
    "TransferNetwork",
    "build_network",
    "check_backbone",
    "describe",
    "facts_about",
    "list_backbones",
]
