"""Predictions for named photographs or texts, some of which cannot be read; and the same as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.class_scores import ClassScores, class_scores
from trainables.classifier import CLASS_PREFIX, LABEL, PROBABILITY, UNLIKE, Classifier
from trainables.data.images import Ints
from trainables.errors import Problem
from trainables.files import write_whole
from trainables.predicted_chunk import PredictedChunk, joined

PHOTO, TRUE_LABEL, ERROR = "photo", "true_label", "error"
"""Columns of the CSV file besides those of `Classifier.predict`."""


class Guess(NamedTuple):
    """A class and its probability in [0, 1]."""

    class_name: str
    probability: float


@dataclass(frozen=True, eq=False)
class PhotoPredictions:
    """Predictions for the photographs or texts `names`.

    `probabilities` N×K are in the order of `class_names`; rows of inputs that cannot be read are NaN, and `problems`
    says why, by position. `unlike` N says which are unlike anything seen; None if the model is not calibrated.
    """

    names: Sequence[str]
    class_names: Sequence[str]
    probabilities: NDArray[np.float32]
    problems: dict[int, Problem]
    unlike: NDArray[np.bool_] | None = None

    def __iter__(self) -> Iterator[int]:
        """Iterates over the positions of the inputs that were read."""
        return (i for i in range(len(self.names)) if i not in self.problems)

    def guesses(self, position: int, top: int) -> list[Guess]:
        """The `top` most probable classes of an input, best first."""
        row = self.probabilities[position]
        return [Guess(self.class_names[k], float(row[k])) for k in np.argsort(-row, kind="stable")[:top]]

    def is_unlike(self, position: int) -> bool:
        """Whether an input is unlike anything seen, as far as that is known."""
        return self.unlike is not None and bool(self.unlike[position])

    @property
    def num_unlike(self) -> int:
        """Number of inputs unlike anything seen."""
        return sum(map(self.is_unlike, self))

    def counts(self) -> dict[str, int]:
        """Number of inputs of each predicted class, the most frequent first."""
        predicted = self.probabilities[list(self)].argmax(axis=1) if len(self.problems) < len(self.names) else []
        numbers, counts = np.unique(np.asarray(predicted, dtype=np.int64), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {self.class_names[numbers[k]]: int(counts[k]) for k in order}

    def scores(self, labels: Ints) -> ClassScores:
        """Scores the inputs that were read against their labels N."""
        read = np.array(list(self), dtype=np.int64)
        predicted = self.probabilities[read].argmax(axis=1).astype(np.int64)
        return class_scores(predicted, labels[read], self.class_names)


def predict_photos(
    classifier: Classifier, names: Sequence[str], on_progress: Callable[[int], object] = lambda num_done: None
) -> PhotoPredictions:
    """Predicts the classes of the photographs, or texts, `names`. `on_progress` is called with the number done so far.

    A photograph that cannot be read is a problem of the result; no error.
    """

    def chunks() -> Iterator[PredictedChunk]:
        yield classifier.no_predictions
        num_done = 0
        for chunk in classifier.predict_chunks(list(names)):
            num_done += len(chunk.probabilities)
            on_progress(num_done)
            yield chunk

    found = joined(chunks())
    unlike = classifier.is_unlike(found)
    return PhotoPredictions(names, classifier.class_names, found.probabilities, found.problems, unlike)


def write_csv(predictions: PhotoPredictions, file: Path, labels: Ints | None = None) -> None:
    """Writes a row for each input, the unreadable ones with their error, in the order of their names.

    Names that are no UTF-8 are written as the bytes that they are. Raises OSError.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    true_label = [TRUE_LABEL] if labels is not None else []
    unlike = [UNLIKE] if predictions.unlike is not None else []
    of_classes = [CLASS_PREFIX + name for name in predictions.class_names]
    writer.writerow([PHOTO, *true_label, LABEL, PROBABILITY, *unlike, ERROR, *of_classes])
    for i, name in enumerate(predictions.names):
        truth = [] if labels is None else [predictions.class_names[labels[i]]]
        writer.writerow([name, *truth, *_cells(predictions, i)])
    write_whole(file, text.getvalue().encode("utf-8", "surrogateescape"))


def _cells(predictions: PhotoPredictions, position: int) -> list[Any]:
    problem = predictions.problems.get(position)
    num_unlike_columns = int(predictions.unlike is not None)
    if problem is not None:
        empty = [""] * (2 + num_unlike_columns)
        return [*empty, f"expected {problem.expected}, got {problem.got}", *[""] * len(predictions.class_names)]
    (best,) = predictions.guesses(position, 1)
    unlike = [str(predictions.is_unlike(position)).lower()] * num_unlike_columns
    shares = [f"{share:.6g}" for share in predictions.probabilities[position]]
    return [best.class_name, f"{best.probability:.6g}", *unlike, "", *shares]
