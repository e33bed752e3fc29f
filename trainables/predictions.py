"""Predictions: the probabilities that a training gave to examples that it was not trained on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.metrics import all_metrics, top1

Ints = NDArray[np.int64]
Probabilities = NDArray[np.float32]
Features = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities N×K of N examples; `index` N are their positions in the sampled split, `labels` N their classes.

    `features` M×D are directions of the pooled features of some of them, for `trainables.novelty`; None where they are
    not kept.
    """

    index: Ints
    labels: Ints
    probabilities: Probabilities
    features: Features | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def top1(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return top1(self.probabilities, self.labels)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The value of every metric."""
        return all_metrics(self.probabilities, self.labels)

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays of a call that makes the same predictions, by the names of its arguments."""
        return {name: array for name, array in vars(self).items() if isinstance(array, np.ndarray)}

    def as_bytes(self) -> bytes:
        """A compressed NumPy archive."""
        file = io.BytesIO()
        np.savez_compressed(file, **self.arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Predictions:
        """Reads what `as_bytes` wrote. Raises TypeError, ValueError, or what NumPy and zipfile raise, for others."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(**arrays)


def mean_predictions(parts: Sequence[Predictions]) -> Predictions:
    """The mean probabilities of each example over the predictions of it, in the order of `index`.

    Folds that were dealt more than once predict an example once a deal; several trainings predict the same test split.
    """
    index = np.concatenate([part.index for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    probabilities = np.concatenate([part.probabilities for part in parts])
    examples, first, place, count = np.unique(index, return_index=True, return_inverse=True, return_counts=True)
    total = np.zeros((len(examples), probabilities.shape[1]))
    np.add.at(total, place, probabilities)
    return Predictions(examples, labels[first], (total / count[:, None]).astype(np.float32))
