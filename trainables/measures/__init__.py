"""Registry of the measures of trained networks besides accuracy: one measure, one file, one line here; and those
of plugins."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainables.backbones.network import TransferNetwork
from trainables.data.config import DataConfig
from trainables.data.images import LabelledImages
from trainables.measures.interpolation import measure_interpolation
from trainables.registries import Registry

Measure = Callable[[TransferNetwork, LabelledImages, DataConfig, int, torch.device], dict[str, float]]
"""Function of network, images, data configuration, batch size and device that returns named values."""

MEASURES: Registry[Measure] = Registry("measures", {"interpolation": measure_interpolation})

__all__ = ["MEASURES", "Measure"]
