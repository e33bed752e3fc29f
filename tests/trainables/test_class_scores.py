"""Scores on labelled examples, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainables.class_scores import ShareRight, class_scores

NAMES = ("ant", "bee", "cat", "dog")


def test_classes_and_pairs_are_counted() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = np.array([0, 1, 1, 1, 0, 2, 0, 2, 2])
    scores = class_scores(predicted, labels, NAMES)
    assert (scores.top1.num_right, scores.top1.num) == (5, 9)
    assert [(name, share.num_right, share.num) for name, share in scores.classes.items()] == [
        ("ant", 1, 3),
        ("bee", 1, 2),
        ("cat", 3, 4),
    ]
    assert [(pair.label, pair.predicted, pair.num) for pair in scores.confusions] == [
        ("ant", "bee", 2),
        ("bee", "ant", 1),
        ("cat", "ant", 1),
    ]


def test_the_interval_is_wilsons() -> None:
    z, n, p = 1.959963984540054, 120, 0.9
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]
    assert ShareRight(num_right=108, num=120).interval() == pytest.approx(expected)
    assert ShareRight(num_right=5, num=5).interval()[1] == 1


def test_all_right_confuses_nothing() -> None:
    assert class_scores(np.array([1, 0]), np.array([1, 0]), NAMES).confusions == ()
