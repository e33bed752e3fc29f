from __future__ import annotations

import copy

import pytest
import torch

from tests.trainables.methods import references
from tests.trainables.methods.contract import TRAINING, start
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods.feature_extraction import FeatureExtraction, FeatureExtractionConfig


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loss_and_gradient_match_plain_cross_entropy_at_the_head(mode) -> None:
    student, reference = tiny_network(source_head=False), tiny_network(source_head=False)
    ours = FeatureExtraction(FeatureExtractionConfig(backbone_mode=mode), student, tiny_context()).loss(tiny_batch())
    reference.train(mode == "train").target_head = student.target_head
    assert_parity(ours, references.l2(reference, tiny_batch()), student.target_head)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_backbone_keeps_its_weights_and_in_eval_its_statistics(mode) -> None:
    fit = start(FeatureExtractionConfig(backbone_mode=mode))
    before = copy.deepcopy(fit.method.student.state_dict())
    fit.run()
    after = fit.method.student.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    statistics = {name for name, _ in fit.method.student.named_buffers() if name in after}
    assert len(statistics) == 6
    assert changed == {"target_head.weight", "target_head.bias"} | (statistics if mode == "train" else set())
    assert len(list(fit.method.student.parameters())) > sum(len(g["params"]) for g in fit.optimizer.param_groups) == 2


def test_with_frozen_batch_norm_the_statistics_stay_and_dropout_follows_the_mode() -> None:
    """`train` is called on the backbone at every step."""
    losses = {}
    for mode in ("train", "eval"):
        training = TRAINING.model_copy(update={"batch_norm": "frozen"})
        fit = start(FeatureExtractionConfig(backbone_mode=mode), training)
        fit.method.student.backbone.stage.append(torch.nn.Dropout(0.5))
        before = copy.deepcopy(fit.method.student.backbone.state_dict())
        fit.run()
        after = fit.method.student.backbone.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)
        losses[mode] = fit.history.terms["target_label"]
    assert losses["train"][0] != losses["eval"][0]
