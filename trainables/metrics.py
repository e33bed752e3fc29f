"""Metrics of a classification: stand-in until the real module is on main."""

from __future__ import annotations

LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error"})
"""Names of the metrics of which less is better."""
