from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.tiny import CPU
from tests.trainables.tiny_trials import AtStep, never, trained_folds, training_of, trial_of, without_time
from trainables import trial
from trainables.config import TrialConfig
from trainables.data.folds import stratified_folds
from trainables.data.images import LabelledImages
from trainables.errors import Diverged
from trainables.methods import METHODS
from trainables.results import FoldResult
from trainables.seeding import seed_for
from trainables.training.checkpoint import Checkpoints
from trainables.trial import accuracy_on, identity_of, start_fit, train_full
from trainables.types import Batch

pytestmark = pytest.mark.usefixtures("built")


class TestFoldTraining:
    def test_gives_the_accuracy_and_the_curve_of_every_loss_term(self, images: LabelledImages) -> None:
        results = trained_folds(trial_of(), images, 1, 2, 3)
        assert [result.fold for result in results] == [1, 2, 3]
        for result in results:
            assert 0 <= result.val_top1 <= 1
            assert result.duration_s > 0
            assert result.loss_steps == list(range(1, 13))
            assert set(result.loss_terms) == {"target_label", "feature", "source_label", "source_label_excess"}
            assert all(len(curve) == 12 for curve in result.loss_terms.values())

    def test_is_equal_to_the_last_bit_when_repeated(self, images: LabelledImages) -> None:
        first, second = (trained_folds(trial_of(), images, 1, 2, 3) for _ in range(2))
        assert without_time(first) == without_time(second)

    def test_folds_do_not_depend_on_each_other(self, images: LabelledImages) -> None:
        results = trained_folds(trial_of(), images, 1, 2, 3)
        backwards = trained_folds(trial_of(), images, 3, 2, 1)
        assert without_time(backwards[::-1]) == without_time(results)
        assert results[0].loss_terms != results[1].loss_terms

    def test_passes_on_that_a_training_diverged(self, images: LabelledImages) -> None:
        with pytest.raises(Diverged):
            trained_folds(trial_of(learning_rate=1e30), images, 1)

    def test_trains_on_the_rest_of_each_fold_by_its_own_seed(
        self, images: LabelledImages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[set[int]] = []
        seeds: list[int] = []

        def spy(config: TrialConfig, images: LabelledImages, seed: int, device: torch.device, *rest: Any) -> Any:
            seen.append(set(images.index.tolist()))
            seeds.append(seed)
            return start_fit(config, images, seed, device, *rest)

        monkeypatch.setattr(trial, "start_fit", spy)
        trained_folds(trial_of("l2"), images, 1, 2, 3)
        folds = stratified_folds(images.labels, 3, seed=0)
        assert seen == [set(fold.train.tolist()) for fold in folds]
        assert seeds == [seed_for(0, "fold", number) for number in (1, 2, 3)]

    def test_asks_for_a_source_head_only_where_it_is_used(self, images: LabelledImages, built: list[bool]) -> None:
        for method in ("smile", "l2"):
            trained_folds(trial_of(method), images, 1)
        assert built == [True, False]


class TestTheTargetLoss:
    def test_is_of_the_settings_and_of_the_training_part(self, images: LabelledImages) -> None:
        some = images.take([0, 1, 2, 3, 6, 9, 12, 15, 18])
        config = trial_of("l2", class_weights="balanced", label_smoothing=0.1)
        found = start_fit(config, some, 0, CPU).method.target_loss
        assert found.class_weights is not None
        assert torch.allclose(found.class_weights, torch.tensor([9 / 21, 3.0, 3.0]))
        assert found.label_smoothing == 0.1


class TestTrainingOnEverything:
    def test_gives_the_finished_fit_and_its_network(self, images: LabelledImages) -> None:
        network, fit = train_full(trial_of(), images, CPU)
        assert network is fit.method.student
        assert fit.step == 12
        assert fit.method.context.num_examples == 30
        assert fit.method.context.seed == seed_for(0, "full")

    def test_learns_to_tell_colours_apart(self, images: LabelledImages) -> None:
        config = trial_of(num_steps=60)
        untrained = start_fit(config, images, 0, CPU).method.student
        assert accuracy_on(untrained, images, config, CPU) < 0.7
        assert accuracy_on(train_full(config, images, CPU)[0], images, config, CPU) > 0.95

    def test_is_equal_to_the_last_bit_when_repeated(self, images: LabelledImages) -> None:
        first, second = (train_full(trial_of(), images, CPU)[0].state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_another_seed_is_another_training(self, images: LabelledImages) -> None:
        first, second = (train_full(trial_of(seed=seed), images, CPU)[1].history for seed in (0, 1))
        assert first != second


class TestGoingOn:
    @pytest.mark.parametrize("method", METHODS)
    def test_gives_the_undisturbed_result_to_the_bit(
        self, images: LabelledImages, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = trial_of(method, learning_rate=0.01)
        undisturbed = training_of(config, images).result()
        path = tmp_path / "fold-2.pt"
        with pytest.raises(KeyboardInterrupt):
            training_of(config, images, AtStep(path, written_at=5, cut_off_at=8)).result()
        monkeypatch.setattr(f"{METHODS[method].__module__}.{METHODS[method].__name__}.prepare", never)
        result = training_of(config, images, Checkpoints(path, 1000)).result()
        assert result.taken_up_at == 5
        assert without_time([replace(result, taken_up_at=0)]) == without_time([undisturbed])

    def test_starts_anew_where_the_checkpoint_is_broken(self, images: LabelledImages, tmp_path: Path) -> None:
        path = tmp_path / "fold-2.pt"
        training_of(trial_of(), images, AtStep(path, written_at=5)).result()
        path.write_bytes(path.read_bytes()[:-1])
        result = training_of(trial_of(), images, Checkpoints(path, 1000)).result()
        assert without_time([result]) == without_time([training_of(trial_of(), images).result()])

    def test_counts_the_time_from_the_start(self, images: LabelledImages, tmp_path: Path) -> None:
        checkpoints = Checkpoints(tmp_path / "fold-2.pt", 0)
        first = training_of(trial_of(), images, checkpoints)
        first.training._started_s -= 1000
        first.score_at(3)
        assert training_of(trial_of(), images, checkpoints).result().duration_s > 1000

    def test_of_the_training_on_everything(self, images: LabelledImages, tmp_path: Path) -> None:
        undisturbed = train_full(trial_of(), images, CPU)[1].history
        path = tmp_path / "retrain-0.pt"
        with pytest.raises(KeyboardInterrupt):
            train_full(trial_of(), images, CPU, AtStep(path, written_at=5, cut_off_at=8))
        asked = AtStep(path, written_at=100)
        assert train_full(trial_of(), images, CPU, asked)[1].history == undisturbed
        assert asked.asked == 12 - 5

    def test_is_for_the_same_training_alone(self, images: LabelledImages) -> None:
        config, part = trial_of(), images.take(range(20))
        same = identity_of(config, part, 7)
        assert same == identity_of(trial_of(), images.take(range(20)), 7)
        others = [
            identity_of(config, part, 8),
            identity_of(trial_of(seed=1), part, 7),
            identity_of(trial_of(num_steps=13), part, 7),
            identity_of(config, images.take(range(21)), 7),
            identity_of(config, images.take([*range(19), 28]), 7),
            identity_of(config, replace(part, labels=(part.labels + 1) % 3), 7),
            identity_of(config, replace(part, class_names=("a", "b", "c")), 7),
        ]
        assert len({same, *others}) == 8


class TestScoringInBetween:
    @pytest.mark.parametrize("method", METHODS)
    def test_leaves_no_trace(self, images: LabelledImages, method: str) -> None:
        config = trial_of(method, learning_rate=0.01)
        training = training_of(config, images)
        training.score_at(4)
        training.score_at(4)
        training.score_at(9)
        scored = training.result()
        assert scored.curve_steps == [4, 9, 12]
        same = replace(scored, curve_steps=[], curve_metrics={})
        assert without_time([same]) == without_time([training_of(config, images).result()])

    def test_scores_what_there_is(self, images: LabelledImages) -> None:
        training = training_of(trial_of(num_steps=60), images)
        early = training.score_at(1)
        assert training.step == 1
        assert early == training.score_at(1) < training.result().val_top1


class TestStarting:
    def test_tells_the_method_what_it_is_part_of(self, images: LabelledImages) -> None:
        context = start_fit(trial_of(batch_size=8), images, 5, CPU).method.context
        assert (context.seed, context.num_steps, context.steps_per_epoch) == (5, 12, 3)
        assert (context.num_classes, context.num_examples) == (3, 30)

    def test_gives_the_method_as_many_views_as_it_asks_for(self, images: LabelledImages) -> None:
        batches = {method: start_fit(trial_of(method), images, 5, CPU).batch_at(1) for method in ("l2", "bi_tuning")}
        assert batches["l2"].second_inputs is None
        assert batches["bi_tuning"].second_inputs is not None
        assert torch.equal(batches["bi_tuning"].inputs, batches["l2"].inputs)
        assert not torch.equal(batches["bi_tuning"].second_inputs, batches["bi_tuning"].inputs)

    def test_shows_the_method_every_image_once(self, images: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
        passes: list[list[Batch]] = []
        prepare = "trainables.methods.l2.L2.prepare"
        monkeypatch.setattr(prepare, lambda self, batches: passes.extend([list(batches()), list(batches())]))
        start_fit(trial_of("l2"), images, 0, CPU)
        for one_pass in passes:
            assert torch.cat([batch.index for batch in one_pass]).tolist() == list(range(30))
            assert torch.cat([batch.labels for batch in one_pass]).tolist() == images.labels.tolist()

    def test_the_memory_format_of_images_changes_no_shape(self, images: LabelledImages) -> None:
        for channels_last in (True, False):
            student = start_fit(trial_of("l2", channels_last=channels_last), images, 0, CPU).method.student
            weight = student.backbone.stem[0].weight
            assert weight.shape == (4, 3, 3, 3)
            assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last

    def test_counts_the_steps_of_epochs_by_the_examples(self, images: LabelledImages) -> None:
        config = trial_of(num_steps=None, num_epochs=5, batch_size=8)
        whole, fold = start_fit(config, images, 0, CPU), start_fit(config, images.take(range(20)), 0, CPU)
        assert (whole.num_steps, whole.method.context.num_steps) == (15, 15)
        assert (fold.num_steps, fold.method.context.num_steps) == (10, 10)
        fold.run()
        assert fold.history.steps == list(range(1, 11))


def test_a_fold_result_is_plain_data() -> None:
    result = FoldResult(2, 0.75, 1.5, [1, 2], {"target_label": [0.9, 0.8]})
    assert FoldResult(**json.loads(json.dumps(result.as_dict()))) == result
