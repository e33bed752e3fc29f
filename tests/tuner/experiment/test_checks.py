from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import space_of, write_photos
from trainables.errors import BadInput
from tuner.experiment.checks import check_experiment, load_images
from tuner.experiment.search_experiment import SearchExperiment, load_experiment, parse_experiment
from tuner.experiment.smoke import smoke_overrides
from tuner.experiment.tree import set_leaf

SHIPPED = Path(__file__).parents[3] / "search_spaces" / "smile.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of four training and two test images."""
    write_photos(tmp_path, side_px=8, train=4, test=2)
    return tmp_path


def photos(root: Path, **changes: Any) -> SearchExperiment:
    return space_of(data={"dataset": "imagefolder", "root": str(root), "size_px": 16}, **changes)


def said_of(space: SearchExperiment) -> str:
    with pytest.raises(BadInput) as bad:
        check_experiment(space)
    assert all(problem.file == "tiny.yaml" for problem in bad.value.problems)
    return str(bad.value)


class TestChecking:
    def test_counts_what_is_to_come(self) -> None:
        plan = check_experiment(space_of())
        assert (plan.num_trials, plan.num_folds, plan.num_steps, plan.batch_size) == (6, 2, 2, 8)
        assert plan.total_steps == 24
        assert (plan.data.num_train, plan.data.num_test) == (30, 20)
        assert plan.backbone.num_source_classes == 1000

    def test_a_length_in_epochs_is_resolved_for_folds_and_retraining(self) -> None:
        plan = check_experiment(space_of(training__num_steps=None, training__num_epochs=3, search__folds=3))
        assert (plan.num_steps, plan.num_retrain_steps) == (3 * 2, 3 * 3)  # 20 and 30 images in batches of 8
        searched = {"training__num_steps": None, "training__num_epochs": {"choice": [2, 9]}}
        assert check_experiment(space_of(**searched)).num_steps == 2

    def test_where_minutes_alone_limit_the_trials_their_number_is_open(self) -> None:
        plan = check_experiment(space_of(search__trials=None, search__minutes=5))
        assert (plan.num_trials, plan.total_steps) == (None, None)
        assert str(plan) == "trials × 2 folds × 2 steps (2 epochs) of 8 examples"
        assert check_experiment(space_of(search__trials=None)).num_trials == 20
        assert check_experiment(space_of(search__minutes=5)).num_trials == 6

    def test_says_its_data_and_what_of_them_is_not_read(self, root: Path) -> None:
        (root / "test" / "pear" / "notes.txt").touch()
        plan = check_experiment(photos(root))
        assert plan.greeting.splitlines() == [
            str(plan),
            "  data: 8 training and 4 test images, 2 classes of 4 training images each",
            "  files left out: 1 .txt",
        ]

    def test_without_dimensions_there_is_one_trial(self) -> None:
        assert check_experiment(space_of(method__gamma_fe=0.1, method__alpha=0.2)).num_trials == 1

    def test_everything_at_once(self, tmp_path: Path) -> None:
        space = photos(tmp_path / "photoz", backbone__name="package/efficientnet_lite9")
        said = said_of(space)
        assert "data.root: expected an existing folder" in said
        assert "backbone.name: " in said
        assert "did you mean 'package/efficientnet_lite0'" in said

    def test_a_class_with_fewer_images_than_folds(self, root: Path) -> None:
        (root / "train" / "pear" / "0.png").unlink()
        assert "at least 4 training images of every class" in said_of(photos(root, search__folds=4))
        assert "'pear' with 3" in said_of(photos(root, search__folds=4))

    def test_every_choice_is_checked(self, root: Path) -> None:
        names = {"choice": ["package/efficientnet_lite0", "torchvision/resnet0"]}
        assert "'torchvision/resnet0'" in said_of(photos(root, backbone__name=names, method__gamma_fc=0))

    def test_a_range_that_changes_what_is_decoded_must_be_a_choice(self) -> None:
        said = said_of(space_of(data__resize_px={"int": [40, 48]}))
        assert "data.resize_px: expected a choice of a few values" in said

    def test_choices_of_data_in_thousands_of_combinations_are_refused_at_once(self) -> None:
        sizes = {"data__size_px": {"choice": list(range(1, 101))}, "data__resize_px": {"choice": list(range(101, 201))}}
        said = said_of(space_of(**sizes))
        assert said == (
            "tiny.yaml: data: expected at most 256 combinations of choices, as each is checked and may be decoded, "
            "got 10000"
        )

    def test_augmentations_are_decoded_once(self) -> None:
        choices = {"crop": ["none", "random", "random_resized"], "auto_augment": ["none", "rand_augment"]}
        many = {"auto_augment_magnitude": list(range(1, 31)), "erasing": [0.0, 0.1], "flip": [False, True]}
        space = space_of(**{f"data__{key}": {"choice": values} for key, values in (choices | many).items()})
        check_experiment(space)
        assert len(load_images(space)) == 1

    def test_a_range_over_the_view_is_fine(self) -> None:
        check_experiment(space_of(data__resize_px=40, data__size_px={"int": [32, 40]}))

    def test_a_size_that_the_backbone_does_not_take(self) -> None:
        backbone, sizes = {"name": "timm/mixer_s16_224", "pretrained": False}, {"choice": [32, 224]}
        space = space_of(backbone=backbone, method={"name": "l2"}, data__size_px=sizes, data__resize_px=256)
        assert said_of(space) == (
            "tiny.yaml: data.size_px: expected a size of images that timm/mixer_s16_224 takes, as 224, got 32"
        )

    def test_a_method_that_needs_a_source_head(self) -> None:
        assert "backbone.pretrained: expected true" in said_of(space_of(backbone__pretrained=False))

    def test_a_method_that_needs_more_of_its_backbone(self) -> None:
        method = {"name": "manifold_mixup", "deepest_layer": {"int": [2, 99]}}
        said = said_of(space_of(method=method))
        assert said.count("\n") == 0
        assert "got manifold_mixup, which needs a backbone of at least 99 stages" in said
        assert "expected a method for backbone 'package/efficientnet_lite0' (of images, " in said


class TestLoading:
    def test_decodes_the_training_images_and_keeps_no_test_images(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("trainables.data.loading.load_test", None)
        (images,) = load_images(photos(root)).values()
        assert len(images) == 8

    def test_variants_are_decoded_once_each(self, root: Path) -> None:
        sizes = {"choice": [16, 24]}
        space = space_of(
            data={"dataset": "imagefolder", "root": str(root), "size_px": sizes}, training__num_steps={"int": [1, 3]}
        )
        assert sorted(images.sample(1).shape[1] for images in load_images(space).values()) == [18, 27]

    def test_choices_of_the_view_share_their_images(self, root: Path) -> None:
        data = {"dataset": "imagefolder", "root": str(root), "size_px": 16, "flip": {"choice": [True, False]}}
        assert len(load_images(space_of(data=data))) == 1

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_names_every_file_that_does_not_decode(self, root: Path, split: str) -> None:
        broken = [root / split / "apple" / "0.png", root / split / "pear" / "1.png"]
        for file in broken:
            file.write_bytes(b"no image")
        check_experiment(photos(root))  # which decodes nothing
        with pytest.raises(BadInput) as bad:
            load_images(photos(root))
        assert all(str(file) in str(bad.value) for file in broken)
        assert all((p.where, p.file) == ("data.root", "tiny.yaml") for p in bad.value.problems)


class TestSmoke:
    def test_is_tiny_and_writes_over_nothing(self) -> None:
        space = load_experiment(SHIPPED)
        tiny = load_experiment(SHIPPED, smoke_overrides(space))
        plan = check_experiment(tiny)
        assert plan.total_steps is not None
        assert plan.total_steps <= 16
        assert plan.data.num_train == 30
        assert plan.data.num_test == 32
        assert tiny.retrain.seeds == 1
        assert {tiny.name, tiny.model_name}.isdisjoint({space.name, space.model_name})
        assert tiny.dimensions == space.dimensions

    def test_of_few_images_takes_all(self, root: Path) -> None:
        overrides = smoke_overrides(photos(root, search__folds=4))
        assert "data.test_images" not in overrides
        assert overrides["data.train_images"] == 6


def test_smoke_leaves_out_of_the_first_points_what_it_fixes() -> None:
    space = space_of(training__batch_size={"int": [8, 64]}, search__first_points=[{"batch_size": 16, "alpha": 0.5}])
    assert smoke_overrides(space)["search.first_points"] == [{"method.alpha": 0.5}]


def test_a_smoke_run_has_few_steps_whatever_the_length_is_given_in() -> None:
    space = space_of(training__num_steps=None, training__num_epochs={"choice": [2, 9]}, search__minutes=30)
    tree = space.as_tree()
    for path, value in smoke_overrides(space).items():
        set_leaf(tree, path, value)
    tiny = parse_experiment(tree)
    assert (tiny.search.trials, tiny.search.num_trial_folds, tiny.search.minutes) == (2, 2, None)
    assert check_experiment(tiny).num_steps == 4
