"""A curve takes a small share of a training, changes nothing of it, and survives an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tests.trainables.tiny import CPU
from tests.trainables.tiny_trials import AtStep, trial_of, without_time
from trainables.data.folds import stratified_folds
from trainables.data.images import LabelledImages
from trainables.results import FoldResult
from trainables.training import curve
from trainables.training.checkpoint import Checkpoints
from trainables.training.curve import MAX_POINTS, MAX_SHARE, even_points, first_point, further_points
from trainables.trial import FoldTraining, train_full

STEPS = 24


def least_loss(metrics: Mapping[str, float]) -> float:
    return -metrics["log_loss"]


def training(
    images: LabelledImages, checkpoints: Checkpoints | None = None, best: bool = True, learning_rate: float = 0.1
) -> FoldTraining:
    fold = stratified_folds(images.labels, 3, 0)[1]
    config = trial_of(num_steps=STEPS, learning_rate=learning_rate)
    return FoldTraining(config, images, 2, fold, CPU, checkpoints, least_loss if best else None)


class TestThePoints:
    @pytest.mark.parametrize("num_steps", [16, 90, 1000, 9000])
    @pytest.mark.parametrize("evaluation_s", [0.0, 0.1, 1.0, 100.0])
    def test_keep_to_their_share_of_the_time(self, num_steps: int, evaluation_s: float) -> None:
        first = num_steps // (MAX_POINTS + 1)
        points = further_points(first, num_steps, step_s=0.5, evaluation_s=evaluation_s)
        assert len(points) < MAX_POINTS
        assert all(first < point < num_steps for point in points)
        assert points == sorted(set(points))
        if points:
            assert (1 + len(points)) * evaluation_s <= MAX_SHARE * num_steps * 0.5

    def test_there_are_none_in_a_short_training(self) -> None:
        assert first_point(num_steps=15, batch_size=1000, num_scored=1) is None
        assert first_point(num_steps=0, batch_size=8, num_scored=10) is None
        assert first_point(num_steps=90, batch_size=8, num_scored=44) is None  # more than 2 % of 3·90·8
        assert first_point(num_steps=90, batch_size=8, num_scored=43) == 10

    def test_are_even_where_the_best_is_kept(self) -> None:
        assert even_points(24) == [3, 6, 9, 12, 15, 18, 21]
        assert even_points(1) == even_points(0) == []


@pytest.mark.usefixtures("built")
class TestACurve:
    @pytest.fixture
    def plain(self, images: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> FoldResult:
        """As if the fold were too short."""
        monkeypatch.setattr(curve, "first_point", lambda *_: None)
        return training(images, best=False).result()

    def test_there_is_none_of_a_short_fold(self, plain: FoldResult) -> None:
        assert (plain.curve_steps, plain.curve_metrics, plain.kept_share) == ([], {}, 1.0)

    def test_changes_nothing_of_the_training(
        self, images: LabelledImages, plain: FoldResult, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(curve, "first_point", lambda *_: 2)
        monkeypatch.setattr(curve, "further_points", lambda *_: [7, 11])
        result = training(images, best=False).result()
        assert result.curve_steps == [2, 7, 11, STEPS]
        assert result.metrics == plain.metrics
        assert result.loss_terms == plain.loss_terms
        assert {name: values[-1] for name, values in result.curve_metrics.items()} == plain.metrics

    def test_has_the_rungs_that_are_scored_anyway(
        self, images: LabelledImages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(curve, "first_point", lambda *_: 4)
        monkeypatch.setattr(curve, "further_points", lambda *_: [8])
        fold = training(images, best=False)
        at_rung = fold.metrics_at(8)
        result = fold.result()
        assert result.curve_steps == [4, 8, STEPS]
        assert result.curve_metrics["log_loss"][1] == at_rung["log_loss"]

    def test_is_of_the_network_at_its_steps(self, images: LabelledImages) -> None:
        result = training(images).result()
        assert result.curve_steps == [3, 6, 9, 12, 15, 18, 21, 24]
        for step, loss in zip(result.curve_steps, result.curve_metrics["log_loss"], strict=True):
            assert training(images, best=False).metrics_at(step)["log_loss"] == loss

    @pytest.mark.parametrize("learning_rate", [0.1, 1.0])
    def test_the_best_point_is_kept(self, images: LabelledImages, learning_rate: float) -> None:
        fold = training(images, learning_rate=learning_rate)
        result = fold.result()
        losses = result.curve_metrics["log_loss"]
        best = losses.index(min(losses))
        assert result.metrics["log_loss"] == min(losses)
        assert result.val_top1 == result.curve_metrics["top1"][best]
        assert result.kept_share == result.curve_steps[best] / STEPS
        assert fold.predictions is not None
        assert fold.predictions.metrics == result.metrics

    @pytest.mark.parametrize("written_at", [1, 6, 7, 20])
    def test_goes_on_to_the_bit_after_an_interruption(
        self, images: LabelledImages, tmp_path: Path, written_at: int
    ) -> None:
        undisturbed = training(images, learning_rate=1.0).result()
        path = tmp_path / "fold-2.pt"
        with pytest.raises(KeyboardInterrupt):
            training(images, AtStep(path, written_at, cut_off_at=22), learning_rate=1.0).result()
        resumed = training(images, Checkpoints(path, 1000), learning_rate=1.0)
        assert resumed.training.taken_up_at == written_at
        result = resumed.result()
        (same,) = without_time([undisturbed])
        assert {**vars(result), "duration_s": 0, "taken_up_at": 0} == vars(same)


@pytest.mark.usefixtures("built")
def test_a_share_of_a_training_is_its_beginning(images: LabelledImages) -> None:
    config = trial_of(num_steps=STEPS)
    part, fit = train_full(config, images, CPU, share=0.3)
    assert fit.step == 7
    begun = train_full(config, images, CPU)[1]
    assert begun.step == STEPS
    other = FoldTraining(config, images, 1, stratified_folds(images.labels, 3, 0)[0], CPU)
    assert other.training.fit.num_steps == STEPS
    assert any(
        not torch.equal(one, two)
        for one, two in zip(part.state_dict().values(), begun.method.student.state_dict().values(), strict=True)
    )
