"""The contract of every method, and what this one is: `pytest test_focal.py`."""

from __future__ import annotations

import pytest
import torch
from focal import FocalConfig
from torch.nn import functional as F

from trainables.methods import Method
from trainables.methods.l2 import L2Config
from trainables.testing.method_contract import (
    ConfigurationContract,
    FrozenBatchNormContract,
    LossContract,
    TrainingContract,
)
from trainables.testing.tiny import tiny_batch
from trainables.testing.trainings import start, started_method, total_losses

every_setting = pytest.mark.parametrize("config", [FocalConfig(), FocalConfig(focus=0.5)], ids=["paper", "half"])


@every_setting
class TestTheLoss(LossContract):
    pass


@every_setting
class TestATraining(TrainingContract):
    pass


@every_setting
class TestATrainingWithFrozenBatchNorm(FrozenBatchNormContract):
    pass


@pytest.mark.parametrize("name", ["focal"])
class TestTheConfiguration(ConfigurationContract):
    pass


def logits_of(method: Method) -> torch.Tensor:
    return method.student(method.student.embed(tiny_batch().inputs)).target_logits


def test_matches_the_equation_of_the_paper() -> None:
    method = started_method(FocalConfig(focus=2.0))
    p = F.softmax(logits_of(method), dim=1)[torch.arange(6), tiny_batch().labels]
    expected = torch.stack([-((1 - each) ** 2) * each.log() for each in p]).mean()
    torch.testing.assert_close(method.loss(tiny_batch())["focal"], expected)


def test_without_focus_it_is_plain_fine_tuning() -> None:
    fit, plain = start(FocalConfig(focus=0)), start(L2Config())
    fit.run()
    plain.run()
    assert total_losses(fit) == pytest.approx(total_losses(plain), rel=1e-5)
