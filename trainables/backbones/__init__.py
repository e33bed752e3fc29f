"""Pre-trained networks, brought to one shape: embed → features → target head and source head."""

from trainables.backbones.network import Backbone, ImageBackbone, TransferNetwork
from trainables.backbones.sources import build_network, check_backbone, describe

__all__ = ["Backbone", "ImageBackbone", "TransferNetwork", "build_network", "check_backbone", "describe"]
