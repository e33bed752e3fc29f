"""Histories: the state of a search, and of a comparison, after the events of its journal so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from trainables.results import EnsembleResult, FoldResult, RetrainResult
from tuner.experiment.objective import TOP1, Objective
from tuner.experiment.settings import Baseline
from tuner.record.baselines import BaselineRecord, apply_to_baseline
from tuner.record.data_findings import DataFindings
from tuner.record.directory import JOURNAL
from tuner.record.events import (
    BaselineFailed,
    BaselineFoldFinished,
    BaselineRetrained,
    BaselineRetrainingFailed,
    BaselineStarted,
    CellFailed,
    CellFinished,
    ComparisonEnded,
    ComparisonStarted,
    DataExamined,
    EnsembleTested,
    Event,
    FoldAhead,
    FoldFinished,
    HardwareInspected,
    ModelRegistered,
    ResourceEvent,
    RetrainingFailed,
    RetrainingFinished,
    RowSearched,
    RungReached,
    SearchEnded,
    SearchStarted,
    ShareGrown,
    ShareMeasured,
    TrialEnded,
    TrialStarted,
    TrialState,
    WarmStarted,
)
from tuner.record.lines import DamagedJournal, read_events
from tuner.record.trial_record import TrialRecord as TrialRecord
from tuner.record.trial_totals import TrialTotals


@dataclass
class _History:
    """State of either kind after its events. `gpus` is the smallest fraction of a GPU known to be enough so far, on any
    kind; `shares_measured` is by the kind of GPU, "" where there is one; `hardware` is what the last command trains
    on."""

    hardware: HardwareInspected | None = None
    shares_measured: dict[str, ShareMeasured] = field(default_factory=dict)
    gpus: float | None = None
    _gpus_on: dict[str, float] = field(default_factory=dict)

    def gpus_on(self, accelerator: str) -> float | None:
        """Returns the smallest fraction of a GPU of this kind known to be enough so far ("": of any); None if nothing
        is known."""
        if not accelerator:
            return self.gpus
        known = (self._gpus_on[kind] for kind in (accelerator, "") if kind in self._gpus_on)
        return max(known, default=None)

    @classmethod
    def read(cls, journal: Path) -> Self:
        """Reads a journal. Raises as `read_events` and `of`."""
        return cls.of(read_events(journal), journal)

    @classmethod
    def of(cls, events: Iterable[Event], journal: Path = Path(JOURNAL)) -> Self:
        """Makes the history of the events of a journal; see `replay`."""
        history = cls()
        history.replay(events, journal)
        return history

    def replay(self, events: Iterable[Event], journal: Path = Path(JOURNAL)) -> None:
        """Applies the events of a journal, from its first one on; `journal` is its name in errors.

        Raises:
            DamagedJournal: with the line of an event of a trial that never started, as that line was lost.
        """
        for line, event in enumerate(events, start=2):  # the first is the header
            try:
                self.apply(event)
            except KeyError as error:
                got = f"'{event.event}' of trial {error}, which has not"
                raise DamagedJournal(journal, line, "an event of a trial that has started", got) from None

    def apply(self, event: Event) -> None:
        """Updates the state by one event."""
        raise NotImplementedError

    def _apply_resources(self, event: ResourceEvent) -> None:
        if isinstance(event, HardwareInspected):
            self.hardware = event
            return
        if isinstance(event, ShareMeasured):
            self.shares_measured[event.accelerator] = event
        self.gpus = max(self.gpus or 0.0, event.gpus)
        self._gpus_on[event.accelerator] = max(self._gpus_on.get(event.accelerator, 0.0), event.gpus)


Contender = int | Baseline
"""Number of a trial or name of a baseline: what may be retrained and registered."""

RetrainingEvent = RetrainingFinished | RetrainingFailed | BaselineRetrained | BaselineRetrainingFailed
_Place = tuple[Baseline | None, int]
"""Baseline, None for the best trial at the time, and seed."""


def _contender(event: RetrainingEvent) -> Contender:
    return event.trial if isinstance(event, RetrainingFinished | RetrainingFailed) else event.baseline


@dataclass
class SearchHistory(_History):
    """State of a search: every trial by number, every baseline by name, and the events of the search as a whole.

    `ended_trials` are in the order in which they ended. `undecided` is the last result if no event of a trial follows
    it: a crash may have come before the decision about it. `ended` is None while a command works on the search, and
    after its process was killed. `totals` are over `trials`, and follow their events. Without `keeps_curves`, the folds
    of trials have no curves, which a search does not need and which are most of its memory.

        history = SearchHistory.read(directory.journal)
        best_trial(history.trials.values())
    """

    trials: dict[int, TrialRecord] = field(default_factory=dict)
    baselines: dict[Baseline, BaselineRecord] = field(default_factory=dict)
    ended_trials: list[int] = field(default_factory=list)
    undecided: FoldFinished | RungReached | None = None
    warm_started: WarmStarted | None = None
    data_findings: DataFindings | None = None
    started: SearchStarted | None = None
    """The first start; `last_started` is that of the latest command."""
    last_started: SearchStarted | None = None
    ended: SearchEnded | None = None
    keeps_curves: bool = True
    totals: TrialTotals = field(init=False, repr=False, compare=False)
    _retrained: dict[_Place, RetrainingFinished | BaselineRetrained] = field(default_factory=dict)
    _retrain_failures: dict[_Place, RetrainingFailed | BaselineRetrainingFailed] = field(default_factory=dict)
    _ensemble: EnsembleTested | None = None
    _model: ModelRegistered | None = None

    def __post_init__(self) -> None:
        self.totals = TrialTotals(self.trials.values())

    @property
    def objective(self) -> Objective:
        """Metric that the search optimises, which a resumed one cannot change."""
        return TOP1 if self.started is None else self.started.objective

    @property
    def training_length(self) -> float:
        """Share of the steps in the file that trainings have, which a resumed search does not change, either."""
        return 1.0 if self.started is None else self.started.training_length

    def apply(self, event: Event) -> None:  # one case a kind, each a line
        """Updates the state by one event; those of a comparison are ignored."""
        match event:
            case SearchStarted():
                self.started = self.started or event
                self.last_started, self.ended = event, None
            case SearchEnded():
                self.ended = event
            case WarmStarted() | DataExamined():
                self._apply_preparation(event)
            case HardwareInspected() | ShareMeasured() | ShareGrown():
                self._apply_resources(event)
            case RetrainingFinished() | BaselineRetrained() | RetrainingFailed() | BaselineRetrainingFailed():
                self._apply_retraining(event)
            case EnsembleTested():
                self._ensemble = event
            case ModelRegistered():
                self._model = event
            case BaselineStarted() | BaselineFoldFinished() | BaselineFailed():
                apply_to_baseline(self.baselines, event, self.objective)
            case TrialStarted() | RungReached() | FoldAhead() | FoldFinished() | TrialEnded():
                self.undecided = event if isinstance(event, RungReached | FoldFinished) else None
                self._apply_to_trial(event)

    def _apply_preparation(self, event: WarmStarted | DataExamined) -> None:
        if isinstance(event, WarmStarted):
            self.warm_started = event
        else:
            self.data_findings = event.findings

    def _apply_retraining(self, event: RetrainingEvent) -> None:
        baseline = event.baseline if isinstance(event, BaselineRetrained | BaselineRetrainingFailed) else None
        if isinstance(event, RetrainingFinished | BaselineRetrained):
            self._retrained[baseline, event.result.seed] = event
        else:
            self._retrain_failures[baseline, event.seed] = event

    def _apply_to_trial(self, event: TrialStarted | RungReached | FoldAhead | FoldFinished | TrialEnded) -> None:
        if isinstance(event, TrialStarted):
            record = TrialRecord(event.trial, event.params, event.time_s, event.attrs, source=event.source)
            record.objective = self.objective
            self.trials[event.trial] = record
            self.totals.start(record)
            return
        trial = self.trials[event.trial]
        match event:
            case RungReached():
                trial.rungs.append(event.rung)
                self.totals.reach_rung(trial, event.rung)
            case FoldAhead():
                trial.ahead[event.result.fold] = event.result  # with its curves: it is recorded again as finished
            case FoldFinished():
                trial.folds.append(self._kept(event.result))
                trial.ahead.pop(event.result.fold, None)
                self.totals.finish_fold(event.result)
            case TrialEnded():
                trial.state, trial.reason, trial.ended_s = event.state, event.reason, event.time_s
                trial.ahead, trial.discarded = {}, event.discarded
                self.ended_trials.append(event.trial)
                self.totals.end(trial)

    def _kept(self, result: FoldResult) -> FoldResult:
        return result if self.keeps_curves else result.without_curves()

    def retrainings(self, of: Contender) -> dict[int, RetrainResult]:
        """Returns the retrainings of one trial, or of a baseline, by seed.

        A resumed search with more trials may have retrained another.
        """
        done = sorted(self._retrained.items(), key=lambda item: item[0][1])
        return {seed: event.result for (_, seed), event in done if _contender(event) == of}

    def failed_retrainings(self, of: Contender) -> dict[int, str]:
        """Returns the reasons of the retrainings of one trial, or of a baseline, that diverged, by seed."""
        failed = sorted(self._retrain_failures.items(), key=lambda item: item[0][1])
        return {seed: event.reason for (_, seed), event in failed if _contender(event) == of}

    def ensemble(self, of: Contender) -> EnsembleResult | None:
        """Returns the ensemble of the retrainings of one trial, or of a baseline, if it was made."""
        made = self._ensemble
        return made.result if made is not None and of in (made.trial, made.baseline) else None

    @property
    def has_model(self) -> bool:
        """Whether any trial's or baseline's model is registered."""
        return self._model is not None

    def model_uri(self, of: Contender) -> str | None:
        """Returns the URI of the registered model of that trial's or baseline's configuration, if there is one."""
        model = self.registered(of)
        return None if model is None else model.uri

    def registered(self, of: Contender) -> ModelRegistered | None:
        """Returns the registration of the model of that trial's or baseline's configuration, if there is one."""
        model = self._model
        return model if model is not None and of in (model.trial, model.baseline) else None

    @property
    def num_baseline_folds(self) -> int:
        """Number of fold trainings that the baselines took."""
        return sum(len(baseline.results) for baseline in self.baselines.values())

    def count(self, state: TrialState) -> int:
        """Returns the number of trials in `state`."""
        return self.totals.counts[state]


CellPlace = tuple[str, str, int]
"""Row, column and seed of a comparison's training."""


@dataclass
class ComparisonHistory(_History):
    """State of a comparison: the choices of its searched rows by (row, column), its trainings by (row, column,
    seed)."""

    started: ComparisonStarted | None = None
    last_started: ComparisonStarted | None = None
    ended: ComparisonEnded | None = None
    chosen: dict[tuple[str, str], RowSearched] = field(default_factory=dict)
    cells: dict[CellPlace, CellFinished] = field(default_factory=dict)
    cell_failures: dict[CellPlace, CellFailed] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Updates the state by one event; those of a search are ignored."""
        match event:
            case ComparisonStarted():
                self.started = self.started or event
                self.last_started, self.ended = event, None
            case ComparisonEnded():
                self.ended = event
            case HardwareInspected() | ShareMeasured() | ShareGrown():
                self._apply_resources(event)
            case RowSearched():
                self.chosen[event.row, event.column] = event
            case CellFinished():
                self.cells[event.row, event.column, event.seed] = event
                self.cell_failures.pop((event.row, event.column, event.seed), None)  # of an earlier attempt
            case CellFailed():
                self.cell_failures[event.row, event.column, event.seed] = event
