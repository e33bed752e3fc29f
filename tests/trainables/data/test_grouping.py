"""What belongs together by `data.group_by`, and that no fold and no test split gets a part of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.registry import open_dataset
from trainables.data.folds import fold_at
from trainables.data.grouping import group_numbers, with_groups
from trainables.data.loading import check_data, load_train, plan_splits, source_key
from trainables.errors import BadInput, Problem

from .conftest import MakeFolder, fruit, photo


def groups_of(config: DataConfig) -> dict[str, str]:
    """Group of each training image, by its name below the root."""
    listing = with_groups(config, open_dataset(config)).train
    assert listing.groups is not None
    assert config.root is not None
    names = [Path(name).relative_to(config.root).as_posix() for name in listing.names]
    return dict(zip(names, listing.groups, strict=True))


def problem_of(config: DataConfig) -> Problem:
    with pytest.raises(BadInput) as bad:
        check_data(config, num_folds=2)
    (problem,) = bad.value.problems
    assert problem.where == "group_by"
    return problem


def named(root: Path, names: Iterable[str]) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(root / name)
    return root


def object_of(name: str) -> str:
    return Path(name).name.split("_")[0]


@pytest.fixture
def shelves(make_folder: MakeFolder) -> Path:
    """Two kinds of fruit, photographed in three shops each, on shelves."""
    shops = [f"{kind}/{shop}/{shelf}" for kind in ("fig", "lime") for shop in ("a", "b", "c") for shelf in "12"]
    return make_folder({**dict.fromkeys(shops, 2), "fig/loose": 1})


class TestFolders:
    def test_one_of_the_first_level_is_a_group_in_all_classes(self, shelves: Path) -> None:
        groups = groups_of(fruit(shelves, group_by=1))
        assert groups["fig/a/1/0.jpg"] == groups["fig/a/2/1.jpg"] == groups["lime/a/1/0.jpg"] == "a"
        assert len(set(groups.values())) == 4

    def test_deeper_ones_are_told_apart_by_those_above(self, shelves: Path) -> None:
        groups = groups_of(fruit(shelves, group_by=2))
        assert groups["fig/a/1/0.jpg"] == groups["lime/a/1/1.jpg"] == "a/1"
        assert groups["fig/b/1/0.jpg"] == "b/1"

    def test_an_image_without_one_is_a_group_by_itself(self, shelves: Path) -> None:
        groups = groups_of(fruit(shelves, group_by=2))
        assert groups["fig/loose/0.jpg"].endswith("fig/loose/0.jpg")
        assert len(set(groups.values())) == 7

    def test_below_train_they_are_the_same(self, make_folder: MakeFolder) -> None:
        root = make_folder({"train/fig/a": 2, "train/fig/b": 2, "train/lime/a": 2, "train/lime/c": 2, "test/fig": 1})
        assert set(groups_of(fruit(root, group_by=1)).values()) == {"a", "b", "c"}

    def test_a_level_that_is_not_there_is_refused(self, shelves: Path, make_folder: MakeFolder) -> None:
        problem = problem_of(fruit(shelves, group_by=3))
        assert (problem.expected, problem.got) == (
            "a level of sub-folders below the class folders",
            "level 3, where there are 2 levels",
        )

    def test_without_any_it_is_refused(self, make_folder: MakeFolder) -> None:
        assert problem_of(fruit(make_folder({"fig": 4, "lime": 4}), group_by=1)).got == "level 1, where there are none"


class TestNames:
    def test_the_first_group_of_the_expression_counts(self, tmp_path: Path) -> None:
        root = named(tmp_path, ["fig/o1_1.png", "fig/o1_2.png", "fig/o2_1.png", "lime/o1_1.png", "lime/x.png"])
        groups = groups_of(fruit(root, group_by="(o[0-9]+)_([0-9]+)"))
        assert [groups[f"fig/o{name}.png"] for name in ("1_1", "1_2", "2_1")] == ["o1", "o1", "o2"]
        assert groups["lime/o1_1.png"] == "o1"
        assert groups["lime/x.png"].endswith("x.png")

    def test_folders_are_no_part_of_the_name(self, tmp_path: Path) -> None:
        root = named(tmp_path, ["o1/1.png", "o1/2.png", "o2/1.png"])
        problem = problem_of(fruit(root, group_by="(o[0-9]+)"))
        assert problem.expected == "a regular expression that is found in names of files, as '1.png'"
        assert problem.got == "'(o[0-9]+)', which is in none of 3"

    @pytest.mark.parametrize(
        ("group_by", "got"),
        [
            ("o([0-9]", "got 'o([0-9]', which is none: missing ), unterminated subpattern at position 1"),
            ("o[0-9]+", "got 'o[0-9]+', without such a group"),
            ("(?:o)", "got '(?:o)', without such a group"),
            ("folder", "got 'folder', without such a group"),
            (0, "got 0"),
            (-1, "got -1"),
            (True, "got True"),
            (1.0, "got 1.0"),
            (["(o)"], r"got ['(o)']"),
        ],
    )
    def test_what_is_no_grouping_is_refused(self, group_by: object, got: str) -> None:
        with pytest.raises(ValidationError) as error:
            DataConfig.model_validate({"dataset": "imagefolder", "group_by": group_by})
        (detail,) = error.value.errors()
        assert detail["loc"] == ("group_by",)
        assert detail["msg"].endswith(got)
        assert "a level of sub-folders (1, 2, …), column, or a regular expression with a group" in detail["msg"]


class TestColumn:
    def test_is_what_the_dataset_says(self, make_folder: MakeFolder) -> None:
        """A stand-in for a manifest with a column `group`."""
        config = fruit(make_folder({"fig": 3, "lime": 3}), group_by="column")
        dataset = open_dataset(config)
        given = replace(dataset, train=replace(dataset.train, groups=["p", "q", "p", "", "q", ""]))
        listing = with_groups(config, given).train
        assert listing.groups is not None
        assert list(listing.groups)[:3] == ["p", "q", "p"]
        assert len(set(listing.groups)) == 4
        numbers = group_numbers(listing.of_classes(np.array([0])))
        assert numbers is not None
        assert numbers.tolist() == [0, 1, 0]

    def test_is_refused_of_a_dataset_that_has_none(self, make_folder: MakeFolder) -> None:
        problem = problem_of(fruit(make_folder({"fig": 3, "lime": 3}), group_by="column"))
        assert problem.got == "'column' with dataset imagefolder, which has none"

    def test_is_ignored_unless_it_is_asked_for(self, make_folder: MakeFolder) -> None:
        config = fruit(make_folder({"fig": 3, "lime": 3}))
        dataset = open_dataset(config)
        given: Dataset = replace(dataset, train=replace(dataset.train, groups=["p"] * 6))
        assert with_groups(config, given).train.groups is None


def test_examples_that_are_no_files_have_no_folders() -> None:
    digits = DataConfig(dataset="digits", size_px=8, group_by=1)
    assert problem_of(digits).got == "1 with dataset digits, whose examples are not files"


class TestSample:
    @pytest.fixture
    def objects(self, tmp_path: Path) -> Path:
        """Ten objects of each of two kinds, four photographs each."""
        kinds = [("fig", "f"), ("lime", "l")]
        names = [f"{kind}/{letter}{k}_{i}.png" for kind, letter in kinds for k in range(10) for i in range(4)]
        return named(tmp_path, names)

    def test_neither_test_split_nor_folds_split_a_group(self, objects: Path) -> None:
        config = fruit(objects, group_by="^(.+)_")
        splits = plan_splits(config)
        of = [{object_of(name) for name in part.names} for part in (splits.train, splits.test)]
        assert not of[0] & of[1]
        assert (len(of[0]), len(of[1])) == (16, 4)
        train = load_train(config)
        for number in range(1, 7):
            fold = fold_at(train, number, 3, seed=0)
            parts = [{object_of(splits.train.names[i]) for i in part} for part in (fold.train, fold.validation)]
            assert not parts[0] & parts[1]

    def test_a_sample_of_images_keeps_the_groups_of_its_images(self, objects: Path) -> None:
        config = fruit(objects, group_by="^(.+)_", train_images=20)
        splits, train = plan_splits(config), load_train(config)
        assert train.groups is not None
        of_name = {object_of(name) for name in splits.train.names}
        assert len(train) == 20
        assert len(np.unique(train.groups)) == len(of_name) == check_data(config, 2).num_groups
        both = {(object_of(name), int(k)) for name, k in zip(splits.train.names, train.groups, strict=True)}
        assert len(both) == len(of_name)

    def test_without_group_by_there_are_none(self, objects: Path) -> None:
        assert load_train(fruit(objects)).groups is None
        assert check_data(fruit(objects), 2).num_groups is None
        assert source_key(fruit(objects)) != source_key(fruit(objects, group_by="^(.+)_"))

    def test_too_few_groups_of_a_class_are_refused(self, tmp_path: Path) -> None:
        root = named(tmp_path, [f"{kind}/{kind}{i // 4}_{i}.png" for kind in ("fig", "lime") for i in range(8)])
        problem = problem_of(fruit(root, group_by="^(.+)_"))
        assert problem.got == "'fig' in 1, 'lime' in 1", "one of two is in the test split"

    def test_one_group_leaves_nothing_to_hold_out(self, tmp_path: Path) -> None:
        root = named(tmp_path, [f"{kind}/all_{i}.png" for kind in ("fig", "lime") for i in range(8)])
        assert problem_of(fruit(root, group_by="^(.+)_")).got == "16 images in 1"

    def test_more_images_than_the_groups_leave_are_refused(self, objects: Path) -> None:
        with pytest.raises(BadInput, match=r"train_images: expected at most 64, .*got 65"):
            plan_splits(fruit(objects, group_by="^(.+)_", train_images=65, test_images=15))
