"""TrialConfig: all settings that one training depends on."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, ValidationInfo, field_validator

from trainables.backbones.config import BackboneConfig
from trainables.data.config import DataConfig
from trainables.frozen import Frozen
from trainables.methods import METHODS, AnyMethodConfig
from trainables.training.config import TrainingConfig


class TrialConfig(Frozen):
    """One point of a search: data, backbone, method, training, and the seed of all random addresses.

    >>> config = TrialConfig.model_validate(
    ...     {"data": {"dataset": "digits"}, "backbone": {"name": "timm/resnet18"}, "method": {"name": "smile"}}
    ... )
    >>> config.method.gamma_fe, config.training.num_steps
    (0.01, 9000)
    """

    data: DataConfig
    """Dataset, sample and preprocessing."""
    backbone: BackboneConfig
    """Pre-trained network that is fine-tuned."""
    method: AnyMethodConfig
    """Method of fine-tuning, chosen by its `name`, and its settings."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """Settings of the training loop."""
    seed: NonNegativeInt = 0
    """Root of all random addresses; `search.seed` in an experiment file."""

    @field_validator("training")
    @classmethod
    def _compiled_without_hooks(cls, training: TrainingConfig, before: ValidationInfo) -> TrainingConfig:
        method = before.data.get("method")  # missing if it was refused itself
        if training.compile != "none" and method is not None and METHODS[method.name].uses_forward_hooks:
            raise ValueError(f"compile: none with {method.name}, which hooks into the network, got {training.compile}")
        return training

    @field_validator("training")
    @classmethod
    def _statistics_where_needed(cls, training: TrainingConfig, before: ValidationInfo) -> TrainingConfig:
        method = before.data.get("method")
        if training.batch_norm == "frozen" and method is not None and METHODS[method.name].needs_batch_statistics:
            raise ValueError(f"batch_norm: train with {method.name}, which normalises by the batch, got frozen")
        return training
