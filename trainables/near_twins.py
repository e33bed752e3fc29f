"""Near twins: images so alike that the label of one gives the label of the other away.

Several photographs of one object in a row, frames of a film, copies in another size. Where folds split them, validation
measures in part how well a network recognises what it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.folds import Fold
from trainables.data.images import Ints
from trainables.seeding import rng_for

THRESHOLD = 0.8
"""Cosine similarity of pooled features from which on two images are near twins; see docs/decisions/0037."""
MAX_VALIDATED = 2000
"""Number of validation images of all folds together that are compared with training; of more, a random sample is."""


@dataclass(frozen=True)
class NearTwins:
    """Number of validation images that were compared, `num_validated`, and of those with a near twin in training."""

    num_validated: int
    num_with_twin: int


def count_near_twins(
    features_ND: NDArray[np.floating[Any]], folds: Sequence[Fold], threshold: float = THRESHOLD
) -> NearTwins:
    """Counts the validation images whose pooled features have a cosine similarity of at least `threshold` with those of
    an image in the training part of their fold, after subtraction of the mean over all images.

    >>> first, second = Fold(np.array([0, 1]), np.array([2, 3])), Fold(np.array([2, 3]), np.array([0, 1]))
    >>> features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [-2.0, -1.1]])
    >>> count_near_twins(features, [first, second])
    NearTwins(num_validated=4, num_with_twin=2)
    """
    centred_ND = features_ND.astype(np.float32) - features_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths_N1 = np.linalg.norm(centred_ND, axis=1, keepdims=True)
    unit_ND = centred_ND / np.maximum(lengths_N1, np.finfo(np.float32).tiny)
    drawn = _drawn(sum(len(fold.validation) for fold in folds))
    num_with_twin = first = 0
    for fold in folds:
        compared = fold.validation[drawn[first : first + len(fold.validation)]]
        first += len(fold.validation)
        similarities_VT = unit_ND[compared] @ unit_ND[fold.train].T
        num_with_twin += int((similarities_VT.max(axis=1, initial=-1) >= threshold).sum())
    return NearTwins(int(drawn.sum()), num_with_twin)


def _drawn(num_validated: int) -> NDArray[np.bool_]:
    """Which validation images are compared: all, or `MAX_VALIDATED` of them."""
    drawn = np.zeros(num_validated, dtype=np.bool_)
    order: Ints = rng_for(0, "near twins").permutation(num_validated)
    drawn[order[:MAX_VALIDATED]] = True
    return drawn
