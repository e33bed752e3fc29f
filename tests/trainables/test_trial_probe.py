"""Trainings whose head starts as a probe, on tiny networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.tiny import CPU, tiny_network
from tests.trainables.tiny_trials import AtStep, never, trained_folds, training_of, trial_of, without_time
from trainables import probe
from trainables.data.folds import stratified_folds
from trainables.data.images import LabelledImages
from trainables.methods import METHODS
from trainables.probe import ProbeCache, pooled_features
from trainables.training.checkpoint import Checkpoints
from trainables.trial import accuracy_on, start_fit

pytestmark = pytest.mark.usefixtures("built")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes with short weights: the statistics of the tiny network are far from those of the images."""
    monkeypatch.setattr(probe, "GRID", (0.01,))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_training_from_a_probe_and_clipped_is_the_undisturbed_one_to_the_bit(
    images: LabelledImages, tmp_path: Path, method: str, probes: ProbeCache
) -> None:
    settings = {"head_init": "probe", "max_grad_norm": 0.5, "num_steps": None, "num_epochs": 4}
    config = trial_of(method, learning_rate=0.01, **settings)
    undisturbed = training_of(config, images).result()
    path = tmp_path / "fold-2.pt"
    with pytest.raises(KeyboardInterrupt):
        training_of(config, images, AtStep(path, written_at=3, cut_off_at=5)).result()
    probes.clear()
    result = training_of(config, images, Checkpoints(path, 1000)).result()
    assert result.taken_up_at == 3
    assert without_time([replace(result, taken_up_at=0)]) == without_time([undisturbed])
    assert (probes.hits, probes.misses) == (0, 0)


class TestTheProbeAsHead:
    def test_is_there_before_the_first_step(self, images: LabelledImages, probes: ProbeCache) -> None:
        config = trial_of("l2", head_init="probe")
        student = start_fit(config, images, 0, CPU).method.student
        expected = probes.get(config, images, tiny_network(), CPU)
        np.testing.assert_array_equal(student.target_head.weight.detach(), expected.weight)
        np.testing.assert_array_equal(student.target_head.bias.detach(), expected.bias)

    def test_is_in_the_copies_of_the_student(self, images: LabelledImages) -> None:
        method = start_fit(trial_of("smile", head_init="probe"), images, 0, CPU).method
        teacher = method.extra_modules()["teacher"]
        assert torch.equal(teacher.target_head.weight, method.student.target_head.weight)

    def test_tells_classes_apart_before_the_first_step(self, images: LabelledImages) -> None:
        accuracy = {}
        for head_init in ("random", "probe"):
            config = trial_of("l2", head_init=head_init)
            accuracy[head_init] = accuracy_on(start_fit(config, images, 0, CPU).method.student, images, config, CPU)
        assert accuracy["random"] < 0.7
        assert accuracy["probe"] > 0.95

    def test_is_computed_once_for_all_trials_of_a_fold(self, images: LabelledImages, probes: ProbeCache) -> None:
        folds = stratified_folds(images.labels, 3, seed=0)[:2]
        for method in ("l2", "smile", "mixup"):
            for fold in folds:
                start_fit(trial_of(method, head_init="probe"), images.take(fold.train), 0, CPU)
        assert (probes.hits, probes.misses) == (4, 2)

    def test_is_shared_by_retrainings(self, images: LabelledImages, probes: ProbeCache) -> None:
        for seed in (0, 1):
            start_fit(trial_of("l2", head_init="probe", seed=seed), images, seed, CPU)
        assert (probes.hits, probes.misses) == (1, 1)

    def test_alone_is_a_training_without_steps(
        self, images: LabelledImages, probes: ProbeCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("trainables.methods.smile.Smile.prepare", never)
        for method in ("smile", "feature_extraction"):
            config = trial_of(method, head_init="probe", num_steps=0)
            (result,) = trained_folds(config, images, 1)
            assert (result.loss_steps, result.loss_terms) == ([], {})
            fold = stratified_folds(images.labels, 3, config.seed)[0]
            alone = probes.get(config, images.take(fold.train), tiny_network(), CPU)
            features = pooled_features(tiny_network(), images.take(fold.validation), config, CPU)
            right = alone.logits(features).argmax(axis=1) == images.labels[fold.validation]
            assert result.val_top1 == right.mean() > 0.9

    def test_may_be_scored_at_any_step(self, images: LabelledImages) -> None:
        training = training_of(trial_of(head_init="probe", num_steps=0), images)
        assert training.score_at(0) == training.score_at(5) == training.result().val_top1
