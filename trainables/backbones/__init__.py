"""Pre-trained networks with one interface: embed → features → target head and source head."""

from trainables.backbones.config import BackboneConfig
from trainables.backbones.network import Backbone, BackboneFacts, ImageBackbone, TransferNetwork
from trainables.backbones.registry import (
    BackboneSizes,
    build_network,
    check_backbone,
    describe,
    facts_about,
    fetch_weights,
    list_backbones,
    weights_key,
)

__all__ = [
    "Backbone",
    "BackboneConfig",
    "BackboneFacts",
    "BackboneSizes",
    "ImageBackbone",
    "TransferNetwork",
    "build_network",
    "check_backbone",
    "describe",
    "facts_about",
    "fetch_weights",
    "list_backbones",
    "weights_key",
]
