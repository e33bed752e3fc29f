"""What MLflow shows of the baselines of a search: one run a baseline, and one a retraining of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tuner.record.baselines import BaselineRecord
from tuner.record.differences import Difference
from tuner.record.events import (
    BaselineEvent,
    BaselineFailed,
    BaselineFoldFinished,
    BaselineRetrained,
    BaselineRetrainingFailed,
    BaselineStarted,
    SearchStarted,
)
from tuner.record.history import SearchHistory
from tuner.record.selection import mean_and_sd
from tuner.record.standings import standings_of
from tuner.tracking.params import by_short_name
from tuner.tracking.points import Point, fold_points, loss_points, mean_points, mean_test_point, test_points
from tuner.tracking.run_writer import RunWriter, baseline_name, retraining_name, retraining_tags


class BaselineProjection:
    """Writes the events of a search's baselines to MLflow. `history` includes each event that is written."""

    def __init__(self, writer: RunWriter, history: SearchHistory) -> None:
        self._writer = writer
        self._history = history

    def project(self, event: BaselineEvent, started: SearchStarted) -> None:
        """Writes an event of the search `started`. Raises what MLflow raises."""
        record = self._history.baselines.get(event.baseline)
        match event:
            case BaselineStarted():
                self._open(event.baseline, event.time_s, by_short_name(started, event.config) | event.config)
            case BaselineFoldFinished() if record is not None:
                self._write(event.baseline, event.time_s, fold_points(event.result))
                if record.state == "complete":
                    self._end(record, event.time_s)
            case BaselineFailed() if record is not None:
                self._end(record, event.time_s)
            case BaselineRetrained():
                result = event.result
                name = self._open_retraining(event.baseline, result.seed, event.time_s - result.duration_s, "")
                self._writer.write(name, event.time_s, [*test_points(result), *loss_points(result)])
                self._writer.end(name, event.time_s, "FINISHED")
                if (retrained := baseline_name(event.baseline)) in self._writer.names:
                    self._writer.write(retrained, event.time_s, [mean_test_point(self._history, event.baseline)])
            case BaselineRetrainingFailed():
                name = self._open_retraining(event.baseline, event.seed, event.time_s, event.reason)
                self._writer.end(name, event.time_s, "FAILED")

    def reopen(self, time_s: float) -> None:
        """Sets the runs of the baselines running again that were cut off with their search."""
        for record in self._history.baselines.values():
            if record.state == "running":
                self._open(record.name, time_s)

    def kill(self, time_s: float, why: str) -> None:
        """Ends the runs of the baselines that are not complete as killed at `time_s`; `why` says the reason."""
        for record in self._history.baselines.values():
            if record.state == "running":
                self._write(record.name, time_s, tags={"state": "failed", "reason": why})
                self._writer.end(baseline_name(record.name), time_s, "KILLED")

    def _open(self, baseline: str, time_s: float, params: dict[str, object] | None = None) -> None:
        tags = {"baseline": baseline, "state": "running", "reason": ""}
        self._writer.open(baseline_name(baseline), time_s, tags, params)

    def _write(
        self, baseline: str, time_s: float, points: Iterable[Point] = (), tags: Mapping[str, str] | None = None
    ) -> None:
        name = baseline_name(baseline)
        self._writer.ensure(name, time_s, {"baseline": baseline, "state": "running"})
        self._writer.write(name, time_s, points, tags)

    def _end(self, record: BaselineRecord, time_s: float) -> None:
        points = [Point("duration_s", time_s - record.started_s), *mean_points(record)]
        self._write(record.name, time_s, points, {"state": record.state, "reason": record.reason})
        self._writer.end(baseline_name(record.name), time_s, "FAILED" if record.reason else "FINISHED")

    def _open_retraining(self, baseline: str, seed: int, started_s: float, reason: str) -> str:
        """Makes the run of a retraining, and returns its name."""
        name = retraining_name(seed, baseline)
        self._writer.open(name, started_s, {**retraining_tags(seed, baseline), "reason": reason})
        return name


def standing_points(history: SearchHistory, num_parts: int) -> Iterator[Point]:
    """Yields the metrics of the parent run about the baselines: their scores, and the best trial's differences to them.

    They are `<baseline>/val_top1`, `<baseline>/test_top1`, and of the differences `best_minus_<baseline>/val_top1`,
    `…_low` and `…_high`, and the same of the test split; with another objective than top-1, its name in place of
    `top1` in all of validation. `num_parts` is the number of parts of the cross-validation.
    """
    key = history.objective.metric_key
    for standing in standings_of(history, num_parts):
        name, tests = standing.baseline.name, standing.test_scores.values()
        yield Point(f"{name}/{key}", standing.baseline.value)
        yield Point(f"{name}/test_top1", mean_and_sd(tests)[0] if tests else None)
        yield from _difference_points(f"best_minus_{name}/{key}", standing.val)
        yield from _difference_points(f"best_minus_{name}/test_top1", standing.test)


def _difference_points(key: str, difference: Difference | None) -> Iterator[Point]:
    if difference is not None:
        yield Point(key, difference.mean)
        yield Point(f"{key}_low", difference.low)
        yield Point(f"{key}_high", difference.high)
