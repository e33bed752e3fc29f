"""SST-5 as published, if there is a copy, and the errors for other copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from trainables.data.config import DataConfig
from trainables.data.datasets.sst5 import CLASS_NAMES, read_tsv
from trainables.data.loading import check_data, check_decodes, load_test, load_train, source_key
from trainables.data.texts import LabelledTexts
from trainables.errors import BadInput, Problem

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "sst5"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"needs a copy of SST-5 in {PUBLISHED}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 4), ("test", 2)):
        rows = [f"sentence {i} , `` {label}\" ''\t{label}" for i in range(count) for label in range(5)]
        write(tmp_path / "sst5" / f"{split}.tsv", ["sentence\tlabel", *rows])
    return tmp_path


def write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def sst5(root: Path, **fields: Any) -> DataConfig:
    return DataConfig(dataset="sst5", root=root, **{"check_counts": False, **fields})


def refused(root: Path, **fields: Any) -> tuple[Problem, ...]:
    with pytest.raises(BadInput) as caught:
        check_data(sst5(root, **fields), num_folds=3)
    return caught.value.problems


@published
@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("train", [1092, 2218, 1624, 2322, 1288]),
        ("dev", [139, 289, 229, 279, 165]),
        ("test", [279, 633, 389, 510, 399]),
    ],
)
def test_the_published_counts(split: str, counts: list[int]) -> None:
    assert np.bincount(read_tsv(PUBLISHED / f"{split}.tsv").labels).tolist() == counts


@published
def test_the_published_splits() -> None:
    summary = check_data(DataConfig(dataset="sst5", root=PUBLISHED), num_folds=3)
    assert (summary.class_names, summary.num_train, summary.num_test) == (CLASS_NAMES, 8544, 2210)


def test_sentences_are_as_they_stand_there(root: Path) -> None:
    train, test = load_train(sst5(root)), load_test(sst5(root))
    assert isinstance(train, LabelledTexts)
    assert (len(train), len(test), train.num_classes) == (20, 10, 5)
    assert train.texts[7] == "sentence 1 , `` 2\" ''"
    assert train.labels[7] == 2
    check_decodes(sst5(root), "test")


def test_texts_are_sampled_as_images_are(root: Path) -> None:
    summary = check_data(sst5(root, class_fraction=0.4, train_images=6, test_images=2), num_folds=3)
    assert summary.train_per_class == (3, 3)
    assert summary.test_per_class == (1, 1)


def test_the_length_in_tokens_is_a_view(root: Path) -> None:
    assert source_key(sst5(root, max_tokens=32)) == source_key(sst5(root))
    assert source_key(sst5(root, train_images=10)) != source_key(sst5(root))


def test_every_bad_line_is_named(root: Path) -> None:
    write(root / "sst5" / "train.tsv", ["sentence\tlabel", "good\t3", "no label", "one\ttoo many\t1", "off\t5", "\t2"])
    problems = refused(root)
    lines = [f"train.tsv, line {n}" for n in (3, 4, 5, 6)]
    assert [problem.expected.rpartition("/")[2] for problem in problems] == lines
    assert [problem.got for problem in problems] == [r"'no label'", r"'one\ttoo many\t1'", r"'off\t5'", "'2'"]


def test_files_that_are_missing_short_or_something_else(root: Path) -> None:
    (short,) = refused(root, check_counts=True)
    assert short.expected.startswith("8544 training and 2210 test sentences, as published")
    assert short.got == "20 training and 10 test sentences"
    write(root / "sst5" / "train.tsv", ["label\tsentence"])
    (root / "sst5" / "test.tsv").write_bytes(b"\xff\xfe")
    headless, binary = refused(root)
    assert headless.expected.endswith("train.tsv, line 1")
    assert binary.expected == "a text file in UTF-8"
    (root / "sst5" / "test.tsv").unlink()
    (missing,) = refused(root)
    assert missing.got.endswith("without 'test.tsv'")


def test_what_is_for_the_other_kind_is_refused() -> None:
    with pytest.raises(
        ValidationError,
        match=r"none of the keys for images .* with sst5, which is of texts, got size_px=32, flip=False",
    ):
        DataConfig(dataset="sst5", size_px=32, flip=False)
    with pytest.raises(ValidationError, match=r"keys for texts .* with digits, which is of images, got max_tokens=32"):
        DataConfig(dataset="digits", max_tokens=32)
    assert DataConfig.model_validate(DataConfig(dataset="sst5").model_dump()).has_texts
