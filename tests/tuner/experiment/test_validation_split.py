"""With a validation split of its own a dataset has one fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import space_of, write_photos
from trainables.data import loading
from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.registry import open_dataset
from trainables.errors import BadInput, Problem
from tuner.experiment.checks import check_experiment, num_fold_steps
from tuner.experiment.search_experiment import SearchExperiment, load_experiment
from tuner.experiment.smoke import smoke_overrides
from tuner.record.create import new_run
from tuner.record.differences import fold_difference


def space_at(root: Path, **changes: Any) -> SearchExperiment:
    data = {"dataset": "imagefolder", "root": str(root), "size_px": 32, "validation": "folder"}
    return space_of(data=data, **{"search__folds": None, "search__repeats": None, **changes})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve training, six validation and four test images."""
    write_photos(tmp_path, 40, train=6, val=3, test=2)

    def with_val(config: DataConfig) -> Dataset:
        own = open_dataset(config.model_copy(update={"root": tmp_path / "val"}))
        return replace(open_dataset(config), validation=own.train)

    monkeypatch.setattr(loading, "open_dataset", with_val)
    return tmp_path


def test_folds_and_repeats_count_as_one_and_are_recorded_so(root: Path, tmp_path: Path) -> None:
    space = space_at(root, tracking__directory=str(tmp_path / "runs"))
    assert (space.search.folds, space.search.repeats, space.search.num_trial_folds) == (1, 1, 1)
    assert load_experiment(new_run(space).space).search == space.search


def test_the_plan_counts_the_training_images_of_the_fold(root: Path) -> None:
    space = space_at(root, training__num_steps=None, training__num_epochs=2, training__batch_size=4)
    plan = check_experiment(space)
    assert (plan.data.num_train, plan.num_folds, plan.num_repeats) == (18, 1, 1)
    assert (plan.num_steps, plan.num_retrain_steps) == (2 * 12 // 4, 2 * (18 // 4))
    assert plan.num_validated == 6


def test_steps_of_a_fold_leave_out_its_validation_part_only_if_it_was_dealt() -> None:
    training = space_of(training__num_steps=None, training__num_epochs=1, training__batch_size=1).trial_config
    config = training({"method.gamma_fe": 0.02, "method.alpha": 0.5}).training
    assert [num_fold_steps(config, 30, num_folds) for num_folds in (1, 2, 3)] == [30, 15, 20]


@pytest.mark.parametrize(("key", "value"), [("folds", 3), ("repeats", 2)])
def test_other_numbers_are_refused(tmp_path: Path, key: str, value: int) -> None:
    with pytest.raises(BadInput) as bad:
        space_at(tmp_path, **{f"search__{key}": value})
    expected = "1, or nothing, as data.validation: folder is one fold"
    assert bad.value.problems == (Problem(f"search.{key}", expected, str(value), file="tiny.yaml"),)


def test_one_fold_without_such_a_split_is_refused() -> None:
    with pytest.raises(BadInput, match=r"search\.folds: expected a number of at least 2 \(1 with data\.validation"):
        space_of(search__folds=1)


def test_a_tiny_version_has_one_fold_too(root: Path) -> None:
    overrides = smoke_overrides(space_at(root))
    assert overrides["search.folds"] == 1


def test_one_pair_of_folds_has_no_interval() -> None:
    difference = fold_difference([0.75], [0.5], num_parts=1)
    assert (difference.mean, difference.low, difference.high) == (0.25, None, None)
