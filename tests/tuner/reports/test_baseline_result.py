"""Differences in words."""

from __future__ import annotations

import pytest

from tuner.record.differences import Difference
from tuner.reports.baseline_result import BaselineResult, spell_difference, validation_lines


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Difference(mean=0.0267, low=-0.005, high=0.0585, num_pairs=3), "+2.7 points (−0.5 to +5.9, 3 folds)"),
        (Difference(mean=-0.0004, low=-0.01, high=0.0092, num_pairs=6), "0.0 points (−1.0 to +0.9, 6 folds)"),
        (Difference(mean=0.1, num_pairs=1), "+10.0 points (1 fold, no interval)"),
        (Difference(mean=0.0, num_pairs=3), "0.0 points (3 folds, no interval: the same on each)"),
    ],
)
def test_differences_are_in_points_of_a_hundred(difference: Difference, words: str) -> None:
    assert spell_difference(difference, "fold") == words


def test_a_baseline_without_a_score_says_why() -> None:
    running = BaselineResult(label="linear probe", state="running", fold_scores=[0.5])
    failed = BaselineResult(label="fine-tuning", state="failed", reason="fold 2 collapsed")
    assert list(validation_lines({"linear_probe": running, "fine_tuning": failed})) == [
        "  linear probe   not scored on every fold yet",
        "  fine-tuning    no score: fold 2 collapsed",
    ]
