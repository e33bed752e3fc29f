"""The contract on every method that is registered, with its defaults: `pytest --pyargs trainables.testing`."""

from __future__ import annotations

import pytest

from trainables.methods import METHODS
from trainables.testing.method_contract import (
    ConfigurationContract,
    FrozenBatchNormContract,
    LossContract,
    TrainingContract,
)

DEFAULTS = {name: method.Config(name=name) for name, method in METHODS.items()}

every_method = pytest.mark.parametrize("config", DEFAULTS.values(), ids=DEFAULTS.keys())


@every_method
class TestTheLoss(LossContract):
    """What the loss of every method does."""


@every_method
class TestATraining(TrainingContract):
    """What every training does."""

    normalises_by_the_batch = frozenset({"bi_tuning"})


@pytest.mark.parametrize(
    "config",
    [pytest.param(config, id=name) for name, config in DEFAULTS.items() if not METHODS[name].needs_batch_statistics],
)
class TestATrainingWithFrozenBatchNorm(FrozenBatchNormContract):
    """What every training with `batch_norm: frozen` does."""


@pytest.mark.parametrize("name", METHODS)
class TestTheConfiguration(ConfigurationContract):
    """What the configuration class of every method does."""
