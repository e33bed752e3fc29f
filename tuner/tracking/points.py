"""Points of MLflow's metrics, without their times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from statistics import fmean
from typing import NamedTuple

from mlflow.entities import Metric

from trainables.results import EnsembleResult, FoldResult, RetrainResult
from tuner.record.baselines import BaselineRecord
from tuner.record.history import Contender, SearchHistory, TrialRecord


class Point(NamedTuple):
    """One value of a metric. `value` is None where there is none; nothing is written of it then."""

    key: str
    value: float | None
    step: int = 0


def loss_points(result: FoldResult | RetrainResult, prefix: str = "") -> Iterator[Point]:
    """Yields the curve of each loss term as `<prefix>loss/<term>`, over optimiser steps."""
    for term, values in result.loss_terms.items():
        for step, value in zip(result.loss_steps, values, strict=True):
            yield Point(f"{prefix}loss/{term}", value, step)


def fold_points(result: FoldResult) -> Iterator[Point]:
    """Yields every metric of a fold, each as a metric of its own and as a point over folds, its learning curve as
    `fold_<k>/curve/<metric>` over optimiser steps, its speed, and its loss curves."""
    k = result.fold
    for name, value in ({"top1": result.val_top1} | result.metrics).items():
        yield Point(f"fold_{k}/val_{name}", value)
        yield Point(f"fold_val_{name}", value, k)
    for name, values in result.curve_metrics.items():
        for step, value in zip(result.curve_steps, values, strict=True):
            yield Point(f"fold_{k}/curve/{name}", value, step)
    if result.facts is not None:
        yield Point(f"fold_{k}/examples_per_s", result.facts.examples_per_s)
        yield Point(f"fold_{k}/skipped_steps", result.facts.skipped_steps or None)
    yield from loss_points(result, prefix=f"fold_{k}/")


def mean_points(record: TrialRecord | BaselineRecord) -> Iterator[Point]:
    """Yields the mean of each metric over the folds of a complete trial or baseline, as `val_<metric>`."""
    for name, value in record.metrics.items():
        yield Point(f"val_{name}", value)


def test_points(result: RetrainResult | EnsembleResult) -> Iterator[Point]:
    """Yields the top-1 on the test split and each further metric: `test_top1`, `test_log_loss` …, and the duration."""
    yield Point("test_top1", result.test_top1)
    yield from (Point(f"test_{name}", value) for name, value in result.metrics.items() if name != "top1")
    yield Point("duration_s", result.duration_s)


def mean_test_point(history: SearchHistory, of: Contender) -> Point:
    """Mean test top-1 over the retrainings so far, a point a retraining, for the run of what was retrained.

    Of all trials the best alone has one, which is why no choice can be made by it.
    """
    scores = [result.test_top1 for result in history.retrainings(of).values()]
    return Point("test_top1", fmean(scores), len(scores))


def as_metrics(points: Iterable[Point], time_s: float) -> list[Metric]:
    """Converts points to MLflow's metrics, all of the same Unix time. An infinity becomes NaN.

    MLflow would store 1.8e308 for an infinity.
    """
    time_ms = milliseconds(time_s)
    return [
        Metric(key, value if math.isfinite(value) else math.nan, time_ms, step)
        for key, value, step in points
        if value is not None
    ]


def milliseconds(time_s: float) -> int:
    """Converts a time in seconds to MLflow's unit."""
    return int(1000 * time_s)
