"""What a score finds is counted by hand."""

from __future__ import annotations

import numpy as np

from benchmarks.unlike import line_of


def test_a_line_says_what_is_found_at_the_allowed_rate_of_false_alarms() -> None:
    calibration = np.linspace(0.05, 1, 20, dtype=np.float32)  # the smallest of 20 is the threshold: 21 · 5 % = 1.05
    known = np.array([0.01, 0.05, 0.5, 0.9], dtype=np.float32)
    strange = np.array([0.0, 0.04, 0.02, 0.95], dtype=np.float32)
    words = line_of("score", calibration, known, strange).split()
    assert words == ["score", "threshold", "0.0500", "false", "alarms", "0.250", "found", "0.750", "AUROC", "0.625"]
