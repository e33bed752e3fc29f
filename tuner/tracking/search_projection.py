"""What MLflow shows of a search: a parent run, one run a trial, a baseline, and a retraining."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tuner.record.directory import RunDirectory
from tuner.record.events import (
    BaselineEvent,
    BaselineRetrained,
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
from tuner.record.history import SearchHistory
from tuner.tracking.baseline_projection import BaselineProjection, standing_points
from tuner.tracking.dataset_inputs import retraining_inputs, search_inputs
from tuner.tracking.description import TAG as DESCRIPTION
from tuner.tracking.description import describe, model_test_interval, registered_model
from tuner.tracking.params import by_short_name, search_params, trial_params
from tuner.tracking.points import Point, fold_points, loss_points, mean_points, mean_test_point, test_points
from tuner.tracking.run_writer import RunWriter, end_status, hardware_tags, retraining_name, retraining_tags
from tuner.tracking.ui_views import views_of


class SearchProjection:
    """Writes the events of a search to MLflow. `started` is the first of them."""

    def __init__(self, writer: RunWriter, directory: RunDirectory, started: SearchStarted) -> None:
        self.history = SearchHistory(keeps_curves=False)
        self.writer = writer
        self._directory = directory
        self._started = started
        self._baselines = BaselineProjection(writer, self.history)
        self._has_inputs = False

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
                self._model_registered(event)
            case HardwareInspected():
                self.writer.write_parent(event.time_s, tags=hardware_tags(event))
            case SearchEnded():
                self._search_ended(event)
            case _ if isinstance(event, BaselineEvent):
                self._baseline_event(event)

    def kill(self, time_s: float, why: str) -> None:
        """Ends the parent, and every trial that runs, as killed at `time_s`; `why` says the reason."""
        self._kill_open(time_s, why)
        self.writer.write_parent(time_s, tags={"why": why, **self._description()})
        self.writer.end(self.writer.parent, time_s, "KILLED")

    def _search_started(self, event: SearchStarted) -> None:
        places = {"row": event.row, "column": event.column}  # of a row's own search within a comparison
        tags = {key: place for key, place in places.items() if place is not None}
        self.writer.open(self.writer.parent, event.time_s, tags, search_params(event))
        self.writer.tag_experiment(views_of(event), event.time_s)
        for trial in self.history.trials.values():
            if trial.state == "running":  # it was cut off with the search, and goes on with it
                tags = {"trial_id": trial.trial_id, "state": "running", "reason": ""}
                self.writer.open(trial.trial_id, event.time_s, tags)
        self._baselines.reopen(event.time_s)

    def _log_inputs(self, time_s: float) -> None:
        """Writes the datasets to the parent, once: the record names the examples before the first training starts."""
        if not self._has_inputs:
            self.writer.ensure(self.writer.parent, time_s)
            self.writer.write_inputs(self.writer.parent, search_inputs(self._directory, self._started))
            self._has_inputs = True

    def _baseline_event(self, event: BaselineEvent) -> None:
        self._log_inputs(event.time_s)
        self._baselines.project(event, self._started)
        if isinstance(event, BaselineRetrained):
            name = retraining_name(event.result.seed, event.baseline)
            self.writer.write_inputs(name, retraining_inputs(self._directory, self._started))

    def _trial_started(self, event: TrialStarted) -> None:
        self._log_inputs(event.time_s)
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
        self.writer.write_inputs(name, retraining_inputs(self._directory, self._started))
        self.writer.end(name, event.time_s, "FINISHED")
        if (retrained := trial_id(event.trial)) in self.writer.names:  # else somebody has deleted its run
            self.writer.write(retrained, event.time_s, [mean_test_point(self.history, event.trial)])

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

    def _model_registered(self, event: ModelRegistered) -> None:
        later = self._description() if self.history.ended is not None else {}  # by `tuner.replay`
        self.writer.write_parent(event.time_s, self._model_points(), {"model_uri": event.uri, **later})

    def _search_ended(self, event: SearchEnded) -> None:
        self._kill_open(event.time_s, "the search ended before the trial did")
        tags = {"why": event.why, "best_trial": "" if event.best_trial is None else trial_id(event.best_trial)}
        if event.best_baseline is not None:
            tags["winner"] = event.best_baseline
        tags |= self._description()
        points = [
            Point("test_top1_mean", event.test_top1_mean),
            Point("test_top1_sd", event.test_top1_sd),
            Point("duration_s", event.duration_s),
            *standing_points(self.history, self._started.space.get("search", {}).get("folds", 2)),
        ]
        self.writer.write_parent(event.time_s, points, tags)
        self.writer.end(self.writer.parent, event.time_s, end_status(event.outcome))

    def _description(self) -> dict[str, str]:
        """The tag of the description; none of the search of a comparison's row, which is no run to go on with."""
        if self._started.row is not None:
            return {}
        text = describe(self.history, self._started, self._directory, self.writer.experiment_id)
        return {DESCRIPTION: text}

    def _model_points(self) -> Iterator[Point]:
        """Yields the test score of the registered model, with the interval that counts the test examples."""
        model = registered_model(self.history)
        if model is None:
            return
        yield Point("test_top1", model.test_top1)
        if (interval := model_test_interval(model, self._directory)) is not None:
            yield Point("test_top1_low", interval[0])
            yield Point("test_top1_high", interval[1])

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


def _best_so_far(history: SearchHistory) -> Point:
    best, num_ended = history.totals.best, len(history.trials) - history.count("running")
    return Point(f"best_{history.objective.metric_key}", None if best is None else best.value, num_ended)
