"""TrialConfig: everything that one training depends on."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt

from trainables.backbones.config import BackboneConfig
from trainables.data.config import DataConfig
from trainables.methods import AnyMethodConfig
from trainables.training.config import TrainingConfig
from trainables.types import Frozen


class TrialConfig(Frozen):
    """One point of a search: data, backbone, method, training, and the seed that every draw starts from."""

    data: DataConfig
    backbone: BackboneConfig
    method: AnyMethodConfig
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    seed: NonNegativeInt = 0
