"""Datasets of a search as inputs of its runs in MLflow: name, digest, source and size of each split.

They are read from the run directory, since the data may be elsewhere when MLflow is synced. A digest covers names,
classes and contents of the examples, and no paths: the same data have the same digest wherever they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from trainables.errors import BadInput
from tuner.messages.redaction import without_credentials
from tuner.record.data_record import ExampleRow, read_rows
from tuner.record.directory import RunDirectory
from tuner.record.events import SearchStarted
from tuner.record.examples import ExampleNames

CONTEXT = "mlflow.data.context"
"""Tag of an input that says what a run did with it: train, validation or test."""
DIGEST_BYTES = 8


def search_inputs(directory: RunDirectory, started: SearchStarted) -> list[DatasetInput]:
    """Returns the inputs of a search: what its folds train and validate on, and the test split.

    Folds train and validate on the same examples, unless the dataset has a validation split of its own. Returns an
    empty list where the record does not name the examples.
    """
    return list(_inputs(directory, started, ("train", "validation", "test")))


def retraining_inputs(directory: RunDirectory, started: SearchStarted) -> list[DatasetInput]:
    """Returns the inputs of a retraining, which has no validation; see `search_inputs`."""
    return list(_inputs(directory, started, ("train", "test")))


def _inputs(directory: RunDirectory, started: SearchStarted, contexts: Iterable[str]) -> Iterator[DatasetInput]:
    try:
        names, rows = ExampleNames.read(directory), read_rows(directory)
    except BadInput:  # whoever goes on with the run is told so
        return
    if names is None or rows is None:
        return
    data: Mapping[str, Any] = started.space.get("data", {})
    by_name = {row.name: row for row in rows if row.sample == rows[0].sample}
    sampled = [by_name[name] for name in names.train if name in by_name]
    own_validation = [row for row in sampled if row.split == "validation"]
    validates_on_folds = not own_validation
    parts = {
        "train": [row for row in sampled if validates_on_folds or row.split != "validation"],
        "validation": own_validation or sampled,
        "test": [by_name[name] for name in names.test if name in by_name],
    }
    for context in contexts:
        if examples := parts[context]:
            profile = {"num_examples": len(examples), "num_classes": len({row.label for row in examples})}
            if context == "validation" and validates_on_folds:
                profile["num_folds"] = started.num_trial_folds
            dataset = _dataset(f"{_name_of(data)} {context}", data, examples, profile)
            yield DatasetInput(dataset, [InputTag(CONTEXT, context)])


def _dataset(name: str, data: Mapping[str, Any], examples: Iterable[ExampleRow], profile: Mapping[str, int]) -> Dataset:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for row in examples:
        digest.update(repr((row.name, row.label, row.digest)).encode("utf-8", "surrogateescape"))
    place = data.get("file") or data.get("root")
    kind, source = "code", dict[str, Any](tags={"dataset": str(data.get("dataset", ""))})
    if place:
        kind, source = "local", {"uri": without_credentials(str(place))}
    return Dataset(name, digest.hexdigest(), kind, json.dumps(source), profile=json.dumps(profile))


def _name_of(data: Mapping[str, Any]) -> str:
    """Name of a dataset: that of its folder or table if it is the user's own, else its name here."""
    place = data.get("file") or data.get("root")
    return Path(str(place)).name if place else str(data.get("name") or data.get("dataset") or "data")
