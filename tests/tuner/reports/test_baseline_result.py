"""Lines about baselines."""

from __future__ import annotations

from tuner.reports.baseline_result import BaselineResult, validation_lines


def test_a_baseline_without_a_score_says_why() -> None:
    running = BaselineResult(label="linear probe", state="running", fold_scores=[0.5])
    failed = BaselineResult(label="fine-tuning", state="failed", reason="fold 2 collapsed")
    assert list(validation_lines({"linear_probe": running, "fine_tuning": failed})) == [
        "  linear probe   not scored on every fold yet",
        "  fine-tuning    no score: fold 2 collapsed",
    ]
