"""What the report says of the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.reports.searches import fold, write_search
from tests.tuner.tiny import space_of
from trainables.results import FoldResult
from tuner.record.data_findings import DataFindings
from tuner.record.directory import RunDirectory
from tuner.record.events import DataExamined
from tuner.record.examples import ExampleNames
from tuner.reports.data_summary import DataSummary, data_facts, data_summary, data_warnings
from tuner.reports.page import report_page
from tuner.reports.search_run import read_run


@pytest.fixture(autouse=True)
def no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.reports.page.packed_plotly", lambda: "cGxvdGx5")


def keep(directory: RunDirectory, pears: int, apples: int) -> None:
    """The record of a sample of as many training images, two test images, and an image beyond the sample."""
    train = [*(f"pear/{i}" for i in range(pears)), *(f"apple/{i}" for i in range(apples))]
    test = ["pear/test", "apple/test"]
    ExampleNames(class_names=("apple", "pear"), train=tuple(train), test=tuple(test)).write(directory)
    rows = ["sample,split,name,class,hash"]
    rows += [f"0,train,{name},{name.partition('/')[0]},ab" for name in [*train, *test, "pear/not-in-the-sample"]]
    directory.data.write_text("\n".join(rows) + "\n")


def test_examples_of_the_sample_are_counted_by_class(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run")
    keep(directory, pears=12, apples=3)
    assert data_summary(directory) == DataSummary(2, 15, 2, {"pear": (12, 1), "apple": (3, 1)})
    facts = dict(data_facts(read_run(directory), data_summary(directory)))
    assert facts == {
        "data set": "digits",
        "classes": "2",
        "training": "15 images in 2 folds",
        "test": "2 images",
        "training images a class": "from 3 (apple) to 12 (pear)",
    }
    page = report_page(read_run(directory))
    assert '<th scope="row">pear</th><td>12</td><td>1</td>' in page
    keep(directory, pears=4, apples=4)
    assert dict(data_facts(read_run(directory), data_summary(directory)))["training images a class"] == "4 of each"


def test_without_a_record_of_the_data_there_are_no_counts(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run")
    assert data_summary(directory) is None
    keep(directory, pears=2, apples=2)
    directory.data.write_text("torn")
    summary = data_summary(directory)
    assert summary == DataSummary(2, 4, 2, {})
    assert "training images a class" not in dict(data_facts(read_run(directory), summary))
    assert data_warnings(read_run(directory), summary) == []


def test_very_unequal_classes_and_near_twins_are_said(tmp_path: Path) -> None:
    findings = DataFindings(num_validated=600, num_with_twin=186)
    directory = write_search(tmp_path / "run", baselines=[DataExamined(findings=findings)])
    keep(directory, pears=30, apples=5)
    twins, unequal = data_warnings(read_run(directory), data_summary(directory))
    assert twins == (
        "31 % of validation images have a near twin in training: scores are optimistic; see data.group_by."
    )
    assert unequal.startswith("The classes are very unequal: search.objective: balanced_accuracy and ")
    keep(directory, pears=25, apples=5)
    assert data_warnings(read_run(directory), data_summary(directory)) == [twins]


def with_macro_f1(number: int, score: float) -> FoldResult:
    return replace(fold(number, score), metrics={"top1": score, "macro_f1": score})


def test_of_a_search_that_counts_classes_alike_the_sizes_are_said_alone(tmp_path: Path) -> None:
    space = space_of(search__objective="macro_f1", training__class_weights="balanced")
    directory = write_search(tmp_path / "run", space=space, fold_of=with_macro_f1)
    keep(directory, pears=30, apples=5)
    assert data_warnings(read_run(directory), data_summary(directory)) == ["The classes are very unequal."]
