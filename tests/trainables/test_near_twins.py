"""Near twins across folds: their number is that of pairs compared one by one."""

from __future__ import annotations

import numpy as np
import pytest

from trainables import near_twins
from trainables.data.folds import stratified_folds
from trainables.near_twins import NearTwins, count_near_twins
from trainables.seeding import rng_for

LABELS = np.arange(60) % 3
FOLDS = stratified_folds(LABELS, 3, seed=0)
RANDOM = rng_for(0, "features").normal(size=(60, 20))


def counted_one_by_one(features: np.ndarray, threshold: float) -> int:
    centred = features - features.mean(axis=0)
    num_with_twin = 0
    for fold in FOLDS:
        for i in fold.validation:
            num_with_twin += any(
                centred[i] @ centred[j] / np.sqrt(centred[i] @ centred[i] * (centred[j] @ centred[j])) >= threshold
                for j in fold.train
            )
    return num_with_twin


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_they_are_counted_over_all_folds(threshold: float) -> None:
    expected = counted_one_by_one(RANDOM, threshold)
    assert 0 < expected < 60 or threshold == 0.7
    assert count_near_twins(RANDOM.astype(np.float32), FOLDS, threshold) == NearTwins(60, expected)


def test_copies_in_one_fold_are_none() -> None:
    features = RANDOM.copy()
    together = FOLDS[0].validation[:2]
    features[together[1]] = features[together[0]]
    assert count_near_twins(features, FOLDS, 0.99).num_with_twin == 0
    apart = FOLDS[0].validation[0], FOLDS[1].validation[0]
    features = RANDOM.copy()
    features[apart[1]] = features[apart[0]]
    assert count_near_twins(features, FOLDS, 0.99).num_with_twin == 2


def test_what_all_images_have_in_common_makes_no_twins() -> None:
    assert count_near_twins(RANDOM + 100, FOLDS, 0.9) == count_near_twins(RANDOM, FOLDS, 0.9) == NearTwins(60, 0)


def test_an_image_without_features_is_no_twin() -> None:
    assert count_near_twins(np.zeros((60, 5)), FOLDS).num_with_twin == 0


def test_of_many_images_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_twins, "MAX_VALIDATED", 20)
    doubled = np.repeat(RANDOM[:20], 3, axis=0)
    folds = stratified_folds(np.zeros(60, dtype=np.int64), 3, seed=0)
    everything = count_near_twins(doubled, folds, 0.99)
    assert everything.num_validated == 20
    assert everything == count_near_twins(doubled, folds, 0.99)
    assert everything.num_with_twin > 10
