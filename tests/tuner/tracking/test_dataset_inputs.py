"""Datasets as inputs of runs: what a search has trained, validated and tested on, with digests of the contents."""

from __future__ import annotations

import json
from typing import Any

import mlflow.data
import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import RUN, SPACE, Store, retrain, run_trial, start_search
from tuner.record.data_record import COLUMNS
from tuner.record.directory import RunDirectory
from tuner.record.examples import ExampleNames
from tuner.record.journal import SearchJournal
from tuner.tracking.dataset_inputs import CONTEXT, retraining_inputs, search_inputs
from tuner.tracking.projection import Projection

pytestmark = MLFLOW_LEAKS

ROWS = (
    "0,train,a/1.png,a,aa",
    "0,train,b/2.png,b,bb",
    "0,train,b/3.png,b,",  # not in the sample
    "0,test,a/4.png,a,cc",
    "1,train,a/1.png,a,of another sample",
)
PHOTOS = {**SPACE, "data": {"dataset": "imagefolder", "root": "/photos/clothes"}}


def write_record(directory: RunDirectory, *rows: str, train: tuple[str, ...] = ("a/1.png", "b/2.png")) -> None:
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.data.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    ExampleNames(class_names=("a", "b"), train=train, test=("a/4.png",)).write(directory)


def inputs_of(journal: SearchJournal, space: dict[str, Any] = PHOTOS) -> dict[str, Any]:
    start_search(journal, space=space)
    assert journal.history.last_started is not None
    inputs = search_inputs(journal.directory, journal.history.last_started)
    return {each.tags[0].value: each.dataset for each in inputs}


def test_a_search_trains_and_validates_on_the_same_examples(journal: SearchJournal, directory: RunDirectory) -> None:
    write_record(directory, *ROWS)
    datasets = inputs_of(journal)
    assert {context: dataset.name for context, dataset in datasets.items()} == {
        "train": "clothes train",
        "validation": "clothes validation",
        "test": "clothes test",
    }
    assert datasets["train"].digest == datasets["validation"].digest != datasets["test"].digest
    assert json.loads(datasets["validation"].profile) == {"num_examples": 2, "num_classes": 2, "num_folds": 2}
    assert json.loads(datasets["test"].profile) == {"num_examples": 1, "num_classes": 1}


def test_a_validation_split_of_its_own_is_one(journal: SearchJournal, directory: RunDirectory) -> None:
    write_record(directory, ROWS[0], "0,validation,b/2.png,b,bb", ROWS[3])
    datasets = inputs_of(journal)
    assert {context: json.loads(dataset.profile)["num_examples"] for context, dataset in datasets.items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    assert "num_folds" not in json.loads(datasets["validation"].profile)


def test_the_digest_is_of_the_contents_and_not_of_the_place(journal: SearchJournal, directory: RunDirectory) -> None:
    write_record(directory, *ROWS)
    before = inputs_of(journal)["train"].digest
    elsewhere = {**SPACE, "data": {"dataset": "imagefolder", "root": "/elsewhere/clothes"}}
    assert inputs_of(journal, elsewhere)["train"].digest == before
    write_record(directory, "0,train,a/1.png,a,changed", *ROWS[1:])
    assert inputs_of(journal)["train"].digest != before


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        ({"dataset": "digits", "root": None}, "digits train", "code"),
        ({"dataset": "manifest", "file": "/data/labels.csv"}, "labels.csv train", "local"),
        ({"dataset": "hugging_face", "name": "org/beans"}, "org/beans train", "code"),
    ],
)
def test_the_name_and_the_source(
    journal: SearchJournal, directory: RunDirectory, data: dict[str, Any], name: str, kind: str
) -> None:
    write_record(directory, *ROWS)
    dataset = inputs_of(journal, {**SPACE, "data": data})["train"]
    assert (dataset.name, dataset.source_type) == (name, kind)


def test_without_a_record_of_the_data_there_are_none(journal: SearchJournal, directory: RunDirectory) -> None:
    assert inputs_of(journal) == {}
    write_record(directory, *ROWS)
    directory.examples.unlink()
    assert inputs_of(journal) == {}


def test_mlflow_has_them_at_the_search_and_at_each_retraining(
    projection: Projection, journal: SearchJournal, directory: RunDirectory, store: Store
) -> None:
    write_record(directory, *ROWS)
    start_search(journal, space=PHOTOS)
    run_trial(journal, 0, [0.7, 0.8])
    retrain(journal, 0)
    projection.advance()
    projection.forget()
    projection.advance()  # writes all of it again
    found = {
        run: sorted((each.tags[0].key, each.tags[0].value) for each in store.runs[run].inputs.dataset_inputs)
        for run in (RUN, "retrain-seed-0", "trial-0000")
    }
    assert found == {
        RUN: [(CONTEXT, "test"), (CONTEXT, "train"), (CONTEXT, "validation")],
        "retrain-seed-0": [(CONTEXT, "test"), (CONTEXT, "train")],
        "trial-0000": [],
    }
    dataset = store.runs[RUN].inputs.dataset_inputs[0].dataset
    assert mlflow.data.get_source(dataset).to_dict() == {"uri": "/photos/clothes"}
    assert journal.history.started is not None
    assert len(retraining_inputs(directory, journal.history.started)) == 2
