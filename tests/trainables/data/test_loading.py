from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import loading
from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.registry import open_dataset
from trainables.data.folds import fold_at
from trainables.data.loading import (
    check_data,
    check_decodes,
    load_test,
    load_train,
    plan_splits,
    source_key,
)
from trainables.errors import BadInput, Problem

from .conftest import MakeFolder, fruit

DIGITS = DataConfig(dataset="digits", train_images=150, test_images=500, size_px=8, resize_px=8, sampling_seed=0)
CLASS_FOLDS = "at least 3 training images of every class, one for each of 3 folds"


def test_digits_as_in_the_default_experiment() -> None:
    train, test = load_train(DIGITS), load_test(DIGITS)
    assert train.pixels.shape == (150, 8, 8, 3)
    assert test.pixels.shape == (500, 8, 8, 3)
    assert np.bincount(train.labels).tolist() == [15] * 10
    assert np.ptp(np.bincount(test.labels)) <= 3


def test_train_and_test_are_disjoint() -> None:
    splits = plan_splits(DIGITS)
    assert not set(splits.train.names) & set(splits.test.names)
    everything = plan_splits(DIGITS.model_copy(update={"train_images": None}))
    assert len({*everything.train.names, *everything.test.names}) == 1797


def test_samples_are_nested_and_leave_the_test_split_alone() -> None:
    small, large = (plan_splits(DIGITS.model_copy(update={"train_images": n})) for n in (150, 400))
    assert set(small.train.names) < set(large.train.names)
    assert small.test.names == large.test.names


def test_another_sampling_seed_is_another_sample() -> None:
    other = plan_splits(DIGITS.model_copy(update={"sampling_seed": 1}))
    assert other.train.names != plan_splits(DIGITS).train.names
    assert other.test.names != plan_splits(DIGITS).test.names


def test_the_sample_does_not_depend_on_global_randomness() -> None:
    np.random.seed(1)
    first = plan_splits(DIGITS).train.names
    np.random.seed(2)
    assert plan_splits(DIGITS).train.names == first


def test_drawn_classes_filter_both_splits(make_folder: MakeFolder) -> None:
    classes = ["fig", "kiwi", "lime", "plum"]
    root = make_folder({f"{split}/{name}": 3 for split in ("train", "test") for name in classes})
    config = fruit(root, class_fraction=0.5, test_images=4)
    summary = check_data(config, num_folds=3)
    assert len(summary.class_names) == 2
    assert summary.train_per_class == (3, 3)
    assert summary.test_per_class == (2, 2)
    splits = plan_splits(config)
    for listing in (splits.train, splits.test):
        folders = [Path(name).parent.name for name in listing.names]
        assert folders == [splits.class_names[label] for label in listing.labels]


def test_the_summary_says_what_there_is_and_what_is_not_read(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 9, "train/kiwi": 4, "train/lime": 6, "test/fig": 2, "val/fig": 3})
    (root / "train" / "fig" / "notes.txt").touch()
    summary = check_data(fruit(root), num_folds=3)
    assert str(summary) == "19 training and 2 test images, 3 classes of 4 ('kiwi') to 9 ('fig') training images"
    assert summary.notes == (
        "files left out: 1 .txt",
        "images of a validation split, not read: 3 (data.validation: folder validates with them)",
    )
    even = check_data(DIGITS.model_copy(update={"train_images": 150}), num_folds=3)
    assert str(even) == "150 training and 500 test images, 10 classes of 15 training images each"
    assert even.notes == ()


def test_loaded_pixels_are_the_files_and_read_only(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 3, "train/lime": 3, "test/fig": 1})
    train = load_train(fruit(root))
    assert not train.pixels.flags.writeable
    for row, name in enumerate(plan_splits(fruit(root)).train.names):
        reference = Image.open(name).resize((9, 9), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(train.pixels[row], np.asarray(reference))


def test_each_loader_decodes_its_own_split_only(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 3, "train/lime": 3, "test/fig": 2, "test/lime": 2})
    broken = root / "test" / "lime" / "1.jpg"
    broken.write_bytes(b"no picture")
    assert len(load_train(fruit(root))) == 6
    check_decodes(fruit(root), "train")
    for touch in (load_test, lambda config: check_decodes(config, "test")):
        with pytest.raises(BadInput) as caught:
            touch(fruit(root))
        assert str(broken) in caught.value.problems[0].got


def test_a_broken_file_outside_the_sample_is_not_decoded(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 6, "train/lime": 6, "test/fig": 1})
    config = fruit(root, train_images=6)
    outside = set(map(str, (root / "train").rglob("*.jpg"))) - set(plan_splits(config).train.names)
    for name in outside:
        Path(name).write_bytes(b"")
    assert len(load_train(config)) == 6


def test_all_mistakes_at_once(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 3, "train/lime": 0, "test/fig": 1, "test/kiwi": 1})
    with pytest.raises(BadInput) as caught:
        check_data(fruit(root, train_images=99, test_images=99), num_folds=3)
    assert [p.where for p in caught.value.problems] == ["root", "root", "train_images", "test_images"]
    assert str(caught.value.under("data")).startswith("data.root: expected images")


def test_a_root_and_a_size_that_digits_refuse() -> None:
    with pytest.raises(BadInput) as caught:
        check_data(DIGITS.model_copy(update={"root": Path("x"), "train_images": 1298}), num_folds=3)
    assert [p.where for p in caught.value.problems] == ["root", "train_images"]


def test_classes_too_small_for_the_folds(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 3, "train/lime": 2, "test/fig": 1})
    with pytest.raises(BadInput) as caught:
        check_data(fruit(root), num_folds=3)
    assert caught.value.problems == (Problem("train_fraction", CLASS_FOLDS, "'lime' with 2"),)


def test_uniform_samples_may_have_small_classes(make_folder: MakeFolder) -> None:
    root = make_folder({"train/fig": 3, "train/lime": 2, "test/fig": 1})
    assert check_data(fruit(root, sampling="uniform"), num_folds=3).num_train == 5


def test_the_key_ignores_the_view_and_nothing_else(tmp_path: Path) -> None:
    base = fruit(tmp_path, size_px=224)
    views: list[dict[str, object]] = [{"resize_px": 256}, {"resize_px": 256, "size_px": 200}]
    views += [{"crop": "random_resized"}, {"crop_area": 0.1}, {"crop_aspect": 2.0}, {"flip": False}, {"erasing": 0.5}]
    views += [{"color_jitter": 0.4}, {"auto_augment": "rand_augment"}, {"auto_augment_magnitude": 5}]
    views += [{"download": True}, {"check_counts": False}, {"max_tokens": 32}]
    others: list[dict[str, object]] = [
        {"dataset": "digits"},
        {"root": tmp_path / "x"},
        {"file": tmp_path / "x.csv"},
        *({f"{column}_column": "x"} for column in ("path", "label", "split", "group")),
        {"name": "me/zoo"},
        {"config_name": "small"},
        {"class_fraction": 0.5},
        {"train_images": 5},
        {"train_fraction": 0.5},
        {"test_images": 5},
        {"test_fraction": 0.5},
        {"sampling": "uniform"},
        {"sampling_seed": 1},
        {"group_by": 1},
        {"validation": "folder"},
        {"resize": "short_side"},
        {"size_px": 128},
    ]
    assert {source_key(base.model_copy(update=view)) for view in views} == {source_key(base)}
    keys = [source_key(base.model_copy(update=other)) for other in others]
    assert len({*keys, source_key(base)}) == len(others) + 1
    assert {key for fields in [*views, *others] for key in fields} == set(DataConfig.model_fields)


def test_the_key_is_equal_in_another_process() -> None:
    program = (
        "import sys; from trainables.data.config import DataConfig; from trainables.data.loading import source_key;"
        "print(source_key(DataConfig.model_validate_json(sys.argv[1])))"
    )
    command = [sys.executable, "-c", program, DIGITS.model_dump_json()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == source_key(DIGITS)


def test_real_photographs(grocery: Path) -> None:
    config = fruit(grocery, class_fraction=0.25, train_images=28, test_images=14, size_px=128)
    summary = check_data(config, num_folds=3)
    assert (summary.num_train, summary.num_test) == (28, 14)
    assert set(summary.train_per_class) == {4}
    train = load_train(config)
    for row, name in enumerate(plan_splits(config).train.names):
        reference = Image.open(name).convert("RGB").resize((146, 146), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(train.pixels[row], np.asarray(reference))


def test_the_photographs_in_numbers(grocery: Path) -> None:
    summary = check_data(fruit(grocery), num_folds=3)
    assert (len(summary.class_names), summary.num_train, summary.num_test) == (28, 868, 685)


class TestValidationSplit:
    @pytest.fixture
    def root(self, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Six training, four validation and two test images; the dataset knows val/."""
        folders = {"train/fig": 4, "train/lime": 4, "val/fig": 2, "val/lime": 2, "test/fig": 1, "test/lime": 1}
        root = make_folder(folders)

        def with_val(config: DataConfig) -> Dataset:
            of_val = open_dataset(config.model_copy(update={"root": Path(root, "val")}))
            return replace(open_dataset(config), validation=of_val.train)

        monkeypatch.setattr(loading, "open_dataset", with_val)
        return root

    def test_is_refused_with_what_training_does_not_know(self, make_folder: MakeFolder) -> None:
        root = make_folder({"train/fig": 3, "train/lime": 3, "test/fig": 1, "val/fig": 2, "val/plum": 1})
        assert len(load_train(fruit(root))) == 6, "as long as it is not read"
        with pytest.raises(BadInput, match="plum"):
            load_train(fruit(root, validation="folder"))

    def test_is_the_only_fold_and_part_of_what_is_trained_on_at_last(self, root: Path) -> None:
        config = fruit(root, validation="folder")
        train, names = load_train(config), plan_splits(config).train.names
        assert len(train) == 12
        fold = fold_at(train, 1, 1, seed=0)
        assert [Path(names[i]).parts[-3] for i in fold.validation] == ["val"] * 4
        assert [Path(names[i]).parts[-3] for i in fold.train] == ["train"] * 8
        assert [train.class_names[k] for k in train.labels] == [Path(name).parent.name for name in names]
        decoded = np.asarray(Image.open(names[-1]).convert("RGB").resize((train.pixels.shape[1],) * 2))
        assert np.abs(train.pixels[-1].astype(int) - decoded).mean() < 8

    def test_a_sample_is_of_the_training_images_alone(self, root: Path) -> None:
        config = fruit(root, validation="folder", train_images=4)
        summary = check_data(config, num_folds=1)
        assert (summary.num_train, summary.num_validation, summary.num_dealt) == (8, 4, 4)

    def test_it_is_left_out_unless_it_is_asked_for(self, root: Path) -> None:
        assert len(load_train(fruit(root))) == 8
        assert load_train(fruit(root)).validated is None

    def test_it_reaches_another_process(self, root: Path) -> None:
        train = load_train(fruit(root, validation="folder", group_by="^(.)"))
        sent = pickle.loads(pickle.dumps(train))
        assert sent.validated.tolist() == train.validated.tolist() == [False] * 8 + [True] * 4
        assert sent.groups.tolist() == train.groups.tolist()
        assert sent.take([11, 0]).validated.tolist() == [True, False]

    def test_a_dataset_without_one_is_refused(self, make_folder: MakeFolder) -> None:
        with pytest.raises(BadInput, match=r"validation: expected 'folds', got 'folder', where dataset"):
            plan_splits(fruit(make_folder({"fig": 3, "lime": 3}), validation="folder"))
