"""What is unlike anything seen: the similarity is a cosine, and known inputs are called unlike as often as stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.calibration import FALSE_ALARM_RATE
from trainables.novelty import (
    MAX_KNOWN_OF_FOLD,
    NoveltyDetector,
    Similarity,
    directions,
    fitted_detector,
    read_known,
    sampled_rows,
    write_known,
)

NUM_FEATURES = 16
CENTRES = np.random.default_rng(9).normal(size=(3, NUM_FEATURES)) * 3 + 5


def known(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Features of examples of three classes, by a network whose features are `shift` away from those of others."""
    rng = np.random.default_rng(seed)
    features = CENTRES[rng.integers(0, 3, count)] + rng.normal(size=(count, NUM_FEATURES))
    return (features + shift * rng.normal(size=NUM_FEATURES)).astype(np.float16)


def share_unlike(detector: NoveltyDetector | None, features: np.ndarray) -> float:
    assert detector is not None
    similarity = detector.similarity()(torch.from_numpy(features))
    return float((similarity < detector.threshold).double().mean())


@pytest.mark.parametrize("nearest", [1, 3])
def test_the_similarity_is_the_cosine_with_one_of_the_nearest(nearest: int) -> None:
    bank, given = known(7, 0).astype(np.float64), known(4, 1).astype(np.float64)
    cosines = given @ bank.T / np.linalg.norm(given, axis=1)[:, None] / np.linalg.norm(bank, axis=1)
    expected = np.sort(cosines, axis=1)[:, -nearest]
    found = Similarity(torch.from_numpy(bank), nearest)(torch.from_numpy(given))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    scaled = Similarity(torch.from_numpy(8 * bank), nearest)(torch.from_numpy(given / 3))
    np.testing.assert_allclose(scaled, expected, atol=1e-5)


def test_of_few_known_examples_the_farthest_counts() -> None:
    similarity = Similarity(torch.eye(2, 3), nearest=10)
    assert similarity(torch.tensor([[1.0, 0.0, 0.0]])).tolist() == [0.0]


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_new_examples_are_called_unlike_about_as_often_as_stated(shift: float) -> None:
    """Also where the networks of the folds differ from each other, as the final one does from them."""
    rates = []
    for seed in range(40):
        folds = [known(100, 10 * seed + k, shift) for k in range(3)]
        rates.append(share_unlike(fitted_detector(folds, 3), known(200, 10 * seed + 5, shift)))
    assert np.mean(rates) == pytest.approx(FALSE_ALARM_RATE, abs=0.025)


def test_strange_examples_are_found() -> None:
    detector = fitted_detector([known(100, k) for k in range(3)], 3)
    strange = np.random.default_rng(1).normal(size=(50, NUM_FEATURES)).astype(np.float16)
    assert share_unlike(detector, strange) > 0.9


def test_too_little_to_calibrate_on_is_no_detector() -> None:
    assert fitted_detector([], 3) is None
    assert fitted_detector([known(100, 0)], 3) is None, "one network alone has no other"
    assert fitted_detector([known(9, 0), known(9, 1)], 3) is None
    assert fitted_detector([known(10, 0), known(9, 1)], 3) is not None


def test_the_number_of_known_examples_is_limited() -> None:
    detector = fitted_detector([known(60, k) for k in range(3)], 3, max_known=50)
    assert detector is not None
    assert detector.known.shape == (50, NUM_FEATURES)
    rows = sampled_rows(1000)
    assert (len(rows), len(set(rows.tolist()))) == (MAX_KNOWN_OF_FOLD, MAX_KNOWN_OF_FOLD)
    assert (np.diff(rows) > 0).all()
    assert sampled_rows(5).tolist() == [0, 1, 2, 3, 4]


def test_features_of_any_size_fit_into_half_precision() -> None:
    large = torch.tensor([[1e6, 1e6, 0.0]])
    assert directions(large).half().tolist() == [[pytest.approx(0.5**0.5, abs=1e-3)] * 2 + [0.0]]


def test_a_file_is_read_back_to_the_bit_and_anything_else_refused(tmp_path: Path) -> None:
    file = tmp_path / "known.npz"
    write_known(file, NoveltyDetector(known(5, 0), 4, 0.5))
    read = read_known(file, 0.5)
    np.testing.assert_array_equal(read.known, known(5, 0))
    assert (read.nearest, read.threshold) == (4, 0.5)
    np.savez(file, known=np.zeros(3), nearest=np.int64(1))
    with pytest.raises(ValueError, match="float16 M×D, got float64 of 1 dimensions"):
        read_known(file, 0.5)
    np.savez(file, other=np.zeros(3))
    with pytest.raises(ValueError, match="with features of known examples"):
        read_known(file, 0.5)
    file.write_bytes(b"torn")
    with pytest.raises(ValueError, match="allow_pickle"):
        read_known(file, 0.5)
