"""What a score finds is counted by hand, and each score tells far features from near ones."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.unlike import Seen, across_folds, line_of, mahalanobis, nearest


def test_a_line_says_what_is_found_at_the_allowed_rate_of_false_alarms() -> None:
    calibration = np.linspace(0.05, 1, 20)  # the smallest of 20 is the threshold: 21 · 5 % = 1.05
    known, strange = np.array([0.01, 0.05, 0.5, 0.9]), np.array([0.0, 0.04, 0.02, 0.95])
    words = line_of("score", calibration, known, strange, strange[:2]).split()
    expected = "score false alarms 0.250 found 0.750 AUROC 0.625 validation: found 1.000 AUROC 1.000"
    assert words == expected.split()


@pytest.mark.parametrize("scorer_of", [nearest, mahalanobis])
def test_other_features_have_lower_scores(scorer_of: object) -> None:
    assert callable(scorer_of)
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    centres = 4 * np.eye(3, 8)
    known = (centres[labels] + rng.normal(size=(90, 8))).astype(np.float32)
    score = scorer_of(known, labels)
    near = (centres[labels] + rng.normal(size=(90, 8))).astype(np.float32)
    far = (-4 * np.ones(8) + rng.normal(size=(90, 8))).astype(np.float32)
    assert np.median(score(far)) < np.quantile(score(near), 0.05)
    parts = [slice(30 * k, 30 * k + 30) for k in range(3)]
    folds = [Seen(known[part], labels[part], known[part, 0], labels[part] == 0) for part in parts]
    assert across_folds(scorer_of, folds).shape == (90,)
