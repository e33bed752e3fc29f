"""Predictions of many photographs, some of which cannot be read."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.tuner.prediction.tiny import CLASSES, load, save_model, write_photos
from trainables.classifier import Classifier
from tuner.prediction.photo_predictions import PhotoPredictions, predict_photos, write_csv


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load(save_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Five names, of which the second and the fourth cannot be read."""
    first, third, fifth = write_photos(tmp_path, "1.png", "3.png", "5.png")
    (tmp_path / "2.png").write_text("no image")
    return [first, str(tmp_path / "2.png"), third, str(tmp_path / "4.png"), fifth]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as text:
        return list(csv.DictReader(text))


def test_those_that_can_be_read_have_their_classes(classifier: Classifier, names: list[str]) -> None:
    done: list[int] = []
    predictions = predict_photos(classifier, names, done.append)
    assert done == [2, 4, 5]
    assert list(predictions) == [0, 2, 4]
    assert {i: problem.where for i, problem in predictions.problems.items()} == {1: names[1], 3: names[3]}
    for i in predictions:
        expected = classifier.predict_proba([names[i]])[0]
        best = predictions.guesses(i, 2)
        assert [guess.class_name for guess in best] == [CLASSES[k] for k in np.argsort(-expected)[:2]]
        assert best[0].probability == pytest.approx(expected.max(), rel=1e-4)
    assert sum(predictions.counts().values()) == 3
    assert (predictions.unlike, predictions.num_unlike) == (None, 0)


def test_a_calibrated_model_says_what_is_unlike(tmp_path: Path, names: list[str]) -> None:
    photos = [names[i] for i in (0, 2, 4)]
    chunks = load(save_model(tmp_path / "model", unlike_threshold=0.0)).predict_chunks(photos)
    similarity = np.concatenate([chunk.similarity for chunk in chunks if chunk.similarity is not None])
    threshold = float(np.sort(similarity)[:2].mean())
    predictions = predict_photos(load(save_model(tmp_path / "model", unlike_threshold=threshold)), names)
    assert [i for i in range(5) if predictions.is_unlike(i)] == [(0, 2, 4)[int(similarity.argmin())]]
    assert predictions.num_unlike == 1
    assert not predictions.is_unlike(1), "it was not read"


def predictions_of(*labels: int, problems: tuple[int, ...] = (), unlike: np.ndarray | None = None) -> PhotoPredictions:
    """Predictions of these classes out of three, with a probability of 0.8 each."""
    from trainables.errors import Problem

    probabilities = np.full((len(labels), 3), 0.1, dtype=np.float32)
    probabilities[np.arange(len(labels)), list(labels)] = 0.8
    probabilities[list(problems)] = np.nan
    named = {i: Problem(f"{i}.png", "an image file", "nothing") for i in problems}
    return PhotoPredictions(
        [f"{i}.png" for i in range(len(labels))], ("ant", "bee", "cat"), probabilities, named, unlike
    )


def test_classes_are_counted() -> None:
    assert predictions_of(2, 0, 2, 1, problems=(3,)).counts() == {"cat": 2, "ant": 1}
    assert predictions_of(2, problems=(0,)).counts() == {}


def test_labels_of_what_cannot_be_read_do_not_count() -> None:
    scores = predictions_of(0, 1, 2, 1, problems=(1,)).scores(np.array([0, 0, 1, 1]))
    assert (scores.top1.num_right, scores.top1.num) == (2, 3)
    assert [(pair.label, pair.predicted) for pair in scores.confusions] == [("bee", "cat")]


class TestCsv:
    def test_has_a_row_for_each(self, tmp_path: Path) -> None:
        write_csv(predictions_of(2, 0, problems=(1,)), tmp_path / "new" / "p.csv")
        first, second = rows_of(tmp_path / "new" / "p.csv")
        assert first == {
            "photo": "0.png",
            "label": "cat",
            "probability": "0.8",
            "error": "",
            "probability/ant": "0.1",
            "probability/bee": "0.1",
            "probability/cat": "0.8",
        }
        assert second["error"] == "expected an image file, got nothing"
        assert {second[key] for key in ("label", "probability", "probability/ant", "probability/cat")} == {""}

    def test_says_true_labels_and_what_is_unlike(self, tmp_path: Path) -> None:
        predictions = predictions_of(2, 0, 1, problems=(1,), unlike=np.array([True, False, False]))
        write_csv(predictions, tmp_path / "p.csv", np.array([2, 1, 0]))
        rows = rows_of(tmp_path / "p.csv")
        assert [row["true_label"] for row in rows] == ["cat", "bee", "ant"]
        assert [row["unlike"] for row in rows] == ["true", "", "false"]
        assert [row["probability/cat"] for row in rows] == ["0.8", "", "0.1"]

    def test_keeps_names_as_they_are(self, tmp_path: Path) -> None:
        predictions = predictions_of(0, 1)
        names = ['a, "b"\n.png', "caf\udce9.png"]
        renamed = PhotoPredictions(names, predictions.class_names, predictions.probabilities, {})
        write_csv(renamed, tmp_path / "p.csv")
        assert [row["photo"] for row in rows_of(tmp_path / "p.csv")] == names
