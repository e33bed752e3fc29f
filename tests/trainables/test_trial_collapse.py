"""A training whose network ends with one prediction for all examples fails, and is not scored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.tiny import CPU
from tests.trainables.tiny_trials import trained_folds, training_of, trial_of
from trainables import trial
from trainables.config import TrialConfig
from trainables.data.images import LabelledImages
from trainables.errors import Collapsed
from trainables.results import RetrainFailed
from trainables.trial import accuracy_on, train_and_test, train_full

pytestmark = pytest.mark.usefixtures("built")


def kills_its_features(self: Any, step: int) -> None:
    """Stands in for `Method.after_step`: from step 3 on no feature is above zero."""
    if step >= 3:
        norm = self.student.backbone.stage[1]
        torch.nn.init.zeros_(norm.weight)
        torch.nn.init.constant_(norm.bias, -1)


class TestACollapsedTraining:
    @pytest.fixture
    def config(self, monkeypatch: pytest.MonkeyPatch) -> TrialConfig:
        monkeypatch.setattr("trainables.methods.l2.L2.after_step", kills_its_features)
        return trial_of("l2", learning_rate=0.01, num_steps=24)

    def test_has_no_score_of_a_fold(self, images: LabelledImages, config: TrialConfig) -> None:
        with pytest.raises(Collapsed, match="collapsed: the network predicts the same for all 10 examples"):
            trained_folds(config, images, 1)

    def test_has_none_on_the_way_either(self, images: LabelledImages, config: TrialConfig) -> None:
        training = training_of(config, images)
        training.score_at(2)
        with pytest.raises(Collapsed):
            training.score_at(20)

    def test_is_not_judged_while_the_running_statistics_follow(
        self, images: LabelledImages, config: TrialConfig
    ) -> None:
        assert 0 <= training_of(config, images).score_at(19) < 1

    def test_is_a_retraining_that_failed(
        self, images: LabelledImages, config: TrialConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trial, "default_device", lambda: CPU)
        ended = train_and_test(config, 1, images, images, None)
        assert ended == RetrainFailed(1, "collapsed: the network predicts the same for all 30 examples")

    def test_is_none_where_the_network_could_never_tell_examples_apart(
        self, images: LabelledImages, config: TrialConfig
    ) -> None:
        """As with random weights, or with examples that are equal."""
        equal = replace(images, index=np.zeros(30, dtype=np.int64))
        assert 0 <= accuracy_on(train_full(config, equal, CPU)[0], equal, config, CPU, num_steps=24) < 0.5
