"""Predictions and scores as a person, or a program, reads them."""

from __future__ import annotations

import json

import numpy as np
from rich.console import Console

from tests.tuner.prediction.test_photo_predictions import predictions_of
from trainables.class_scores import class_scores
from tuner.prediction.photo_predictions import PhotoPredictions
from tuner.prediction.spelling import (
    prediction_lines,
    prediction_table,
    predictions_as_json,
    score_lines,
    scores_as_json,
    summary_lines,
)

UNLIKE = np.array([False, False, True])


def test_a_line_is_name_class_and_probability() -> None:
    predictions = predictions_of(2, 0, 1, problems=(1,), unlike=UNLIKE)
    assert list(prediction_lines(predictions, 1)) == ["0.png\tcat\t80.0%", "2.png\tbee\t80.0%\tunlike anything seen"]


def test_names_in_a_table_are_no_markup() -> None:
    predictions = predictions_of(0, 1, 2, unlike=UNLIKE)
    names = ["a[copy].png", "[/red].png", "caf\udce9.png"]
    renamed = PhotoPredictions(names, ("[b]ant", "bee", "cat"), predictions.probabilities, {}, UNLIKE)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(prediction_table(renamed, 2))
    text = console.export_text()
    for shown in ("a[copy].png", "[/red].png", "[b]ant", "caf\\udce9.png (unlike anything seen)", "80.0%"):
        assert shown in text


def test_json_says_what_is_unlike_where_that_is_known() -> None:
    plain = predictions_as_json(predictions_of(0, 1, 2, problems=(1,)), 2)
    assert list(plain) == ["0.png", "2.png"]
    assert plain["0.png"][0].keys() == {"class_name", "probability"}
    calibrated = predictions_as_json(predictions_of(0, 1, 2, unlike=UNLIKE), 1)
    assert [calibrated[name][0]["unlike"] for name in calibrated] == [False, False, True]
    json.dumps(calibrated)


def test_a_summary_counts_classes() -> None:
    assert list(summary_lines(predictions_of(2, 0, 2))) == ["3 photos classified: 2 cat, 1 ant"]
    assert list(summary_lines(predictions_of(2, 0, 2, problems=(1,), unlike=UNLIKE))) == [
        "2 photos classified: 2 cat",
        "1 unlike anything seen",
    ]


def test_scores_as_lines_and_as_json() -> None:
    names = ("ant", "bumblebee")
    scores = class_scores(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), names)
    assert list(score_lines(scores)) == [
        "top-1 0.7500 (0.3006 to 0.9544), 3 of 4",
        "classes, the least accurate first",
        "  bumblebee  0.5000 (0.0945 to 0.9055), 1 of 2",
        "  ant        1.0000 (0.3424 to 1.0000), 2 of 2",
        "confused, the most frequent first",
        "     1 bumblebee taken for ant",
    ]
    plain = scores_as_json(scores)
    assert plain["confusions"] == [{"label": "bumblebee", "predicted": "ant", "num": 1}]
    assert plain["classes"]["bumblebee"]["num_right"] == 1
    json.dumps(plain)


def test_only_the_most_frequent_pairs_are_printed() -> None:
    names = [f"c{k}" for k in range(14)]
    labels = np.arange(14)
    lines = list(score_lines(class_scores((labels + 1) % 14, labels, names)))
    assert "confused, the most frequent first (4 more pairs)" in lines
    assert sum("taken for" in line for line in lines) == 10
