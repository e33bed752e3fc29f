"""Trainings with frozen BatchNorm.

Its arithmetic is tested in backbones/test_frozen_batchnorm.py, with every method in methods/test_contract.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.trainables.methods.contract import TRAINING, start
from tests.trainables.tiny import tiny_batch
from trainables.methods.l2 import L2Config
from trainables.methods.losses import cross_entropy
from trainables.methods.manifold_mixup import ManifoldMixupConfig
from trainables.training.loop import Fit

FROZEN = TRAINING.model_copy(update={"batch_norm": "frozen"})


@pytest.mark.parametrize(("update", "is_folded"), [({}, True), ({"precision": "bf16"}, False)])
def test_is_folded_in_full_precision(update: dict[str, str], is_folded: bool) -> None:
    fit = start(L2Config(), FROZEN.model_copy(update=update))
    fit.run(until=1, watch=lambda: assert_folded(fit, is_folded))


def test_is_not_folded_where_the_method_hooks_into_the_student() -> None:
    fit = start(ManifoldMixupConfig(), FROZEN)
    fit.run(until=1, watch=lambda: assert_folded(fit, is_folded=False))


def assert_folded(fit: Fit, is_folded: bool) -> None:
    modules = list(fit.method.student.backbone.modules())
    assert any("forward" in vars(module) for module in modules) == is_folded
    assert not any(module.training for module in modules if isinstance(module, nn.BatchNorm2d))
    assert all(module.training for module in modules if not isinstance(module, nn.BatchNorm2d))


def test_a_checkpoint_has_the_same_tensors() -> None:
    """Also one that is taken during the training, while the convolutions are folded."""
    states: list[dict[str, Any]] = []
    for training in (TRAINING, FROZEN):
        fit = start(L2Config(), training)
        fit.run(until=1, watch=lambda fit=fit: states.append(fit.state_dict()["student"]))
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    assert shapes[0] == shapes[1]


def test_it_is_evaluated_as_it_was_trained() -> None:
    """With the learning rate near zero and no dropout, training and evaluation compute the same loss."""
    config = FROZEN.model_copy(update={"learning_rate": 1e-30})
    fit = start(L2Config(), config, dropout=0)
    fit.run(until=1)
    student = fit.method.student.eval()
    batch = tiny_batch(1)
    with torch.inference_mode():
        evaluated = cross_entropy(student(student.embed(batch.inputs)).target_logits, batch.labels)
    assert fit.history.terms["target_label"][0] == pytest.approx(float(evaluated), rel=1e-5)


def test_nothing_is_patched_unless_asked_for() -> None:
    fit = start(L2Config(), TRAINING)
    before = {module: set(vars(module)) for module in fit.method.student.modules()}

    def as_before() -> None:
        assert {module: set(vars(module)) for module in fit.method.student.modules()} == before
        assert all(module.training for module in fit.method.student.modules())

    fit.run(until=2, watch=as_before)
