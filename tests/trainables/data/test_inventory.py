"""Inventories of a dataset find what was changed in it, and nothing where it has only been moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from trainables.data.config import DataConfig
from trainables.data.inventory import Inventory, changes_between, fingerprint, identical_pairs, take_inventory
from trainables.data.loading import plan_splits

from .conftest import MakeFolder, fruit, photo


@pytest.fixture
def root(make_folder: MakeFolder) -> Path:
    return make_folder({"train/fig": 4, "train/lime": 4, "test/fig": 2, "test/lime": 2})


@pytest.fixture
def before(root: Path) -> Inventory:
    """The inventory before a test changes anything."""
    return take_inventory(fruit(root))


def changes(before: Inventory, root: Path) -> list[str]:
    return list(changes_between(before, take_inventory(fruit(root))))


def test_it_has_each_example_with_split_class_and_contents(root: Path) -> None:
    entries = take_inventory(fruit(root))
    assert len(entries) == 12
    assert entries[0][:3] == ("train", "train/fig/0.jpg", "fig")
    assert entries[-1][:3] == ("test", "test/lime/1.jpg", "lime")
    assert len({entry.digest for entry in entries}) == 12


def test_nothing_has_changed_by_being_looked_at(root: Path, before: Inventory) -> None:
    assert changes(before, root) == []


def test_a_moved_dataset_is_the_same(root: Path, before: Inventory, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "photos"
    shutil.copytree(root, elsewhere)
    moved = take_inventory(fruit(elsewhere))
    assert list(changes_between(before, moved)) == []
    assert fingerprint(moved) == fingerprint(before)


def test_added_and_removed_ones_are_counted_and_some_named(root: Path, before: Inventory) -> None:
    for i in range(5):
        photo(900 + i).save(root / "train" / "lime" / f"new{i}.jpg")
    (root / "test" / "fig" / "1.jpg").unlink()
    assert changes(before, root) == [
        "5 added ('train/lime/new0.jpg', 'train/lime/new1.jpg', 'train/lime/new2.jpg', … (5 in all))",
        "1 removed ('test/fig/1.jpg')",
    ]
    assert fingerprint(take_inventory(fruit(root))) != fingerprint(before)


def test_one_that_was_put_into_another_class_is_said_to_be(root: Path, before: Inventory) -> None:
    (root / "train" / "fig" / "3.jpg").rename(root / "train" / "lime" / "fig3.jpg")
    assert changes(before, root) == ["1 moved or renamed ('train/fig/3.jpg' to 'train/lime/fig3.jpg')"]


def test_other_contents_under_the_same_name_are_found(root: Path, before: Inventory) -> None:
    photo(999).save(root / "train" / "fig" / "0.jpg", quality=95)
    assert changes(before, root) == ["1 with other contents ('train/fig/0.jpg')"]


def test_a_list_may_give_another_class_or_split_to_a_file(root: Path, before: Inventory) -> None:
    first = before[0]
    now = [first._replace(label="lime"), before[1]._replace(split="test"), *before[2:]]
    assert list(changes_between(before, now)) == [
        "1 in another class ('train/fig/0.jpg' from 'fig' to 'lime')",
        "1 in another split ('train/fig/1.jpg' from 'train' to 'test')",
    ]


def test_contents_outside_of_the_sample_are_not_read(root: Path, before: Inventory) -> None:
    sampled = take_inventory(fruit(root, train_images=2, test_images=2))
    assert (len(sampled), sum(bool(entry.digest) for entry in sampled)) == (12, 4)
    assert list(changes_between(before, sampled)) == []


def test_examples_that_are_no_files_have_contents_too() -> None:
    digits = DataConfig(dataset="digits", train_images=20, test_images=10, size_px=8)
    entries = take_inventory(digits)
    assert (len(entries), sum(bool(entry.digest) for entry in entries)) == (1797, 30)
    assert fingerprint(entries) == fingerprint(take_inventory(digits))


def test_files_in_train_and_test_are_paired(root: Path) -> None:
    shutil.copy(root / "train" / "fig" / "2.jpg", root / "test" / "lime" / "copy.jpg")
    config = fruit(root)
    assert identical_pairs(take_inventory(config), plan_splits(config), config) == [
        ("train/fig/2.jpg", "test/lime/copy.jpg")
    ]


def test_only_the_sampled_ones_are(root: Path) -> None:
    """A pair of which one half is not trained on costs nothing."""
    for i in range(4):
        shutil.copy(root / "train" / "fig" / f"{i}.jpg", root / "test" / "fig" / f"copy{i}.jpg")
    config = fruit(root, train_images=2)
    pairs = identical_pairs(take_inventory(config), plan_splits(config), config)
    assert len(pairs) == 1
