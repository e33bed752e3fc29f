"""What MLflow shows of a search: a parent run, one run a trial, a baseline, and a retraining."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tuner.experiment.objective import TOP1
from tuner.messages.invocation import command_line
from tuner.record.directory import RunDirectory
from tuner.record.events import (
    BaselineEvent,
    EnsembleTested,
    Event,
    FoldFinished,
    HardwareInspected,
    ModelRegistered,
    RetrainingFailed,
    RetrainingFinished,
    SearchEnded,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    trial_id,
)
from tuner.record.history import SearchHistory, TrialRecord
from tuner.tracking.baseline_projection import BaselineProjection, standing_points
from tuner.tracking.params import as_text, by_short_name, search_params, trial_params
from tuner.tracking.points import Point, fold_points, loss_points, mean_points, test_points
from tuner.tracking.run_writer import RunWriter, end_status, hardware_tags, retraining_name, retraining_tags
from tuner.tracking.ui_views import VIEW_TAG, view_of_trials

DESCRIPTION = "mlflow.note.content"
"""Tag that the UI shows as a run's description, as Markdown."""


class SearchProjection:
    """Writes the events of a search to MLflow. `started` is the first of them."""

    def __init__(self, writer: RunWriter, directory: RunDirectory, started: SearchStarted) -> None:
        self.history = SearchHistory(keeps_curves=False)
        self.writer = writer
        self._directory = directory
        self._started = started
        self._baselines = BaselineProjection(writer, self.history)

    def apply(self, event: Event) -> None:
        """Takes an event that MLflow has into the history."""
        self.history.apply(event)
        if isinstance(event, SearchStarted):
            self._started = event

    def project(self, event: Event) -> None:
        """Takes an event into the history, and writes to MLflow what it says. Raises what MLflow raises."""
        self.apply(event)
        match event:
            case SearchStarted():
                self._search_started(event)
            case TrialStarted():
                self._trial_started(event)
            case FoldFinished():
                self._fold_finished(event)
            case TrialEnded():
                self._trial_ended(event)
            case RetrainingFinished() | RetrainingFailed() | EnsembleTested():
                self._retrained(event)
            case ModelRegistered():
                self.writer.write_parent(event.time_s, tags={"model_uri": event.uri})
            case HardwareInspected():
                self.writer.write_parent(event.time_s, tags=hardware_tags(event))
            case SearchEnded():
                self._search_ended(event)
            case _ if isinstance(event, BaselineEvent):
                self._baselines.project(event, self._started)

    def kill(self, time_s: float, why: str) -> None:
        """Ends the parent, and every trial that runs, as killed at `time_s`; `why` says the reason."""
        self._kill_open(time_s, why)
        self.writer.write_parent(time_s, tags={"why": why})
        self.writer.end(self.writer.parent, time_s, "KILLED")

    def _search_started(self, event: SearchStarted) -> None:
        places = {"row": event.row, "column": event.column}  # of a row's own search within a comparison
        tags = {key: place for key, place in places.items() if place is not None}
        self.writer.open(self.writer.parent, event.time_s, tags, search_params(event))
        view = view_of_trials(event.num_trial_folds, by_short_name(event, event.dimensions), event.objective)
        self.writer.tag_experiment(VIEW_TAG, view)
        for trial in self.history.trials.values():
            if trial.state == "running":  # it was cut off with the search, and goes on with it
                tags = {"trial_id": trial.trial_id, "state": "running", "reason": ""}
                self.writer.open(trial.trial_id, event.time_s, tags)
        self._baselines.reopen(event.time_s)

    def _trial_started(self, event: TrialStarted) -> None:
        name = trial_id(event.trial)
        tags = {"trial_id": name, "state": "running", "reason": "", "source": event.source}
        self.writer.open(name, event.time_s, tags, trial_params(self._started, event.params))

    def _fold_finished(self, event: FoldFinished) -> None:
        facts = event.result.facts
        tags = None if facts is None else {"device": facts.device, "precision": facts.precision}
        self._write_trial(event.trial, event.time_s, fold_points(event.result), tags)

    def _trial_ended(self, event: TrialEnded) -> None:
        trial = self.history.trials[event.trial]
        points = [Point("duration_s", event.time_s - trial.started_s), *mean_points(trial)]
        self._write_trial(trial.number, event.time_s, points, {"state": trial.state, "reason": trial.reason})
        self.writer.end(trial.trial_id, event.time_s, "FAILED" if trial.state == "failed" else "FINISHED")
        self.writer.write_parent(event.time_s, [_best_so_far(self.history)])

    def _retrained(self, event: RetrainingFinished | RetrainingFailed | EnsembleTested) -> None:
        match event:
            case RetrainingFinished():
                self._retraining_finished(event)
            case RetrainingFailed():
                self._retraining_failed(event)
            case EnsembleTested():
                self._ensemble_tested(event)

    def _retraining_finished(self, event: RetrainingFinished) -> None:
        result = event.result
        name = self._open_retraining(event.trial, result.seed, event.time_s - result.duration_s, reason="")
        self.writer.write(name, event.time_s, [*test_points(result), *loss_points(result)])
        self.writer.end(name, event.time_s, "FINISHED")

    def _retraining_failed(self, event: RetrainingFailed) -> None:
        name = self._open_retraining(event.trial, event.seed, event.time_s, event.reason)
        self.writer.end(name, event.time_s, "FAILED")

    def _ensemble_tested(self, event: EnsembleTested) -> None:
        result, name = event.result, retraining_name(None, event.baseline)
        tags = {**retraining_tags(None, event.baseline), "mean_of": result.mean_of}
        tags["seeds"] = " ".join(map(str, result.seeds))
        self.writer.open(name, event.time_s - result.duration_s, tags)
        self.writer.write(name, event.time_s, test_points(result))
        self.writer.end(name, event.time_s, "FINISHED")
        self.writer.write_parent(event.time_s, [Point("test_top1_ensemble", result.test_top1)])

    def _open_retraining(self, trial: int, seed: int, started_s: float, reason: str) -> str:
        """Makes the run of a retraining, and returns its name."""
        name = retraining_name(seed)
        tags, params = {**retraining_tags(seed), "reason": reason}, {}
        if (record := self.history.trials.get(trial)) is not None:
            tags["of_trial"] = record.trial_id
            params = by_short_name(self._started, record.params)
        self.writer.open(name, started_s, tags, params)
        return name

    def _search_ended(self, event: SearchEnded) -> None:
        self._kill_open(event.time_s, "the search ended before the trial did")
        best = None if event.best_trial is None else self.history.trials.get(event.best_trial)
        tags = {"why": event.why, "best_trial": "" if event.best_trial is None else trial_id(event.best_trial)}
        if event.best_baseline is not None:
            tags["winner"] = event.best_baseline
        if best is not None and self._started.row is None:
            tags[DESCRIPTION] = self._description(best)
        points = [
            Point("test_top1_mean", event.test_top1_mean),
            Point("test_top1_sd", event.test_top1_sd),
            Point("duration_s", event.duration_s),
            *standing_points(self.history, self._started.space.get("search", {}).get("folds", 2)),
        ]
        self.writer.write_parent(event.time_s, points, tags)
        self.writer.end(self.writer.parent, event.time_s, end_status(event.outcome))

    def _kill_open(self, time_s: float, why: str) -> None:
        self._baselines.kill(time_s, why)
        for trial in self.history.trials.values():
            if trial.state == "running":
                self._write_trial(trial.number, time_s, tags={"state": "failed", "reason": why})
                self.writer.end(trial.trial_id, time_s, "KILLED")

    def _write_trial(
        self, number: int, time_s: float, points: Iterable[Point] = (), tags: Mapping[str, str] | None = None
    ) -> None:
        name = trial_id(number)
        self.writer.ensure(name, time_s, {"trial_id": name, "state": "running"})
        self.writer.write(name, time_s, points, tags)

    def _description(self, best: TrialRecord) -> str:
        """What a person wants to know who opens the search in the UI, as Markdown."""
        score = "" if best.score is None else f", validation {best.objective.spell(best.score)}"
        if best.objective != TOP1 and best.val_top1 is not None:
            score += f" (top-1 {best.val_top1:.4f})"
        params = by_short_name(self._started, best.params)
        listed = "".join(f"- {name}: `{as_text(value)}`\n" for name, value in params.items())
        return (
            f"Best: **{best.trial_id}**{score}\n\n{listed}\n"
            f"`{self._directory.report.name}` among the artifacts shows the whole search; "
            f"`{self._directory.best_space.name}` runs the best alone.\n\n"
            f"    {command_line('search', '--resume', self._directory)}\n"
        )


def _best_so_far(history: SearchHistory) -> Point:
    best, num_ended = history.totals.best, len(history.trials) - history.count("running")
    return Point(f"best_{history.objective.metric_key}", None if best is None else best.value, num_ended)
