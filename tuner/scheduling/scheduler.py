"""Trial scheduler: which trial runs next, and when it stops. Independent of Ray.

`tuner.cluster.tune` calls `next_assignment` whenever a worker is free, and reports each fold. Every decision is in the
journal before it takes effect, so that a search can be interrupted at any line and resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Literal

from trainables.config import TrialConfig
from trainables.data.loading import source_key
from trainables.results import FoldResult
from tuner.experiment.checks import num_fold_steps
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import AshaRacing
from tuner.messages.redaction import without_credentials
from tuner.record.events import FoldAhead, FoldFinished, RungReached, ShareGrown, TrialEnded, TrialStarted
from tuner.record.history import TrialRecord
from tuner.record.journal import SearchJournal
from tuner.record.scores import RungScore
from tuner.resources.gpu_memory import next_larger_share
from tuner.resources.node_losses import MAX_LOSSES_PER_HOUR, NodeLosses
from tuner.scheduling.assignment import Assignment
from tuner.scheduling.budgets import PlateauProgress, spent_budget, spent_time
from tuner.scheduling.minutes import TimeBudget, fits_rest_of, spent_reason, too_late_for_trial
from tuner.scheduling.racing import rungs, stop_reason_after_fold, stop_reason_at_rung
from tuner.scheduling.sampler import TrialSampler

MAX_LOST_WORKERS = 2
"""Number of times that a fold whose worker died is restarted before its trial fails."""

EndState = Literal["complete", "pruned", "failed"]


class Decision(Enum):
    """Decision about a worker after its report."""

    CONTINUE = "continue"
    STOP = "stop"


class TrialScheduler:
    """Assigns folds of trials to workers, stops trials by the racing rule and the budgets, and records their ends.

        scheduler = TrialScheduler(space, journal)
        while (assignment := scheduler.next_assignment()) is not None:
            for fold in assignment.folds:
                result = ...  # of training that fold
                if scheduler.fold_finished(assignment.number, result) is Decision.STOP:
                    break

    `journal` is the search's, with the trials of a resumed one; `clock` gives seconds, for the budget of time;
    `num_train` is the number of training examples by `source_key`, for rungs where a length is in epochs; `time_budget`
    is that of `search.minutes`, whose number of places follows that of the cluster.
    """

    def __init__(
        self,
        space: SearchExperiment,
        journal: SearchJournal,
        clock: Callable[[], float] = time.monotonic,
        num_train: Mapping[str, int] | None = None,
        time_budget: TimeBudget | None = None,
    ) -> None:
        self.space = space
        self.journal = journal
        self.sampler = TrialSampler(space, journal.history.trials, journal.history.warm_started)
        self.num_trials = space.search.trials if space.dimensions else 1
        self._num_train = num_train or {}
        self._time_budget = time_budget
        self._clock = clock
        self._started_s = clock()
        self._open = {t.number: t for t in journal.history.trials.values() if t.state == "running"}
        self._configs: dict[int, TrialConfig] = {}
        self._assigned: dict[tuple[int, int], Assignment] = {}  # by trial and fold, folds yet to be begun included
        self._num_assigned = 0
        # By trial: number of its next unassigned fold, counted from its last finished one.
        self._leads: dict[int, int] = {}
        self._plateau = None if space.search.plateau is None else PlateauProgress(space.search.plateau)
        self._num_lost: dict[tuple[int, int], int] = {}
        self._node_losses = NodeLosses(clock)
        for number in self._open:
            self._update_lead(number)
        undecided = journal.history.undecided
        if undecided is not None:  # the search was interrupted between a result and the decision about it
            self._decide(undecided)

    @property
    def done(self) -> bool:
        """Whether no worker has an assignment and no trial will be started."""
        return not self._assigned and self.stop_reason is not None

    @property
    def num_assigned(self) -> int:
        """Number of assignments that workers are at."""
        return self._num_assigned

    @property
    def stop_reason(self) -> str | None:
        """Reason why no trial will be started: all have ended, or a budget is spent; None as long as one will be."""
        settings, history = self.space.search, self.journal.history
        if waiting := list(self._with_lead(1)):  # the other budgets limit new trials alone
            spent = spent_time(settings, self._elapsed_s)
            return spent or (None if any(map(self._fits, waiting)) else self._too_late)
        if self._plateau is not None:
            self._plateau.update(history)
        enough = spent_budget(settings, self.num_trials, history, self._elapsed_s, self._plateau)
        if enough is None and self.sampler.exhausted:
            enough = "every configuration has been tried"
        if enough is None and self._time_budget is not None:
            enough = too_late_for_trial(self._time_budget, history, self._clock())
        return enough

    @property
    def ending(self) -> str:
        """Reason why the search has ended, for the journal and the user."""
        return self.stop_reason or "the cluster has stopped taking trials"

    def next_assignment(self, places: int = 1) -> Assignment | None:
        """Returns the next assignment: of a trial that was interrupted, else of a new one.

        If neither will be started and folds are trained in parallel, it is a later fold of a running trial. None if
        there is nothing to assign now. `places` is the number of workers that fit on the cluster, busy ones included.
        """
        if self._time_budget is not None:  # with more nodes, the retraining takes fewer rounds
            self._time_budget = replace(self._time_budget, places=places)
        while self.stop_reason is None:
            trial = next(filter(self._fits, self._with_lead(1)), None) or self._new_trial()
            if trial is not None:
                missing = self._missing(trial)
                return self._assign(trial, missing[:1] if self._takes_folds_ahead(places) else missing)
        if not self._takes_folds_ahead(places) or spent_time(self.space.search, self._elapsed_s) is not None:
            return None
        fewest_decisions_before = sorted((lead, number) for number, lead in self._leads.items())
        later = (self._open[number] for _, number in fewest_decisions_before)
        trial = next(filter(self._fits, later), None)
        return None if trial is None else self._assign(trial, self._missing(trial)[:1])

    def fold_at(self, assignment: Assignment) -> int | None:
        """Returns the fold that the worker of an assignment is at; None once the assignment is over."""
        return next((k for k in assignment.folds if self._assigned.get((assignment.number, k)) == assignment), None)

    def _takes_folds_ahead(self, places: int) -> bool:
        """Whether folds of a trial are trained in parallel: where there is time for no other trial, beside those that
        run, these are all."""
        budget = self._time_budget
        is_late = budget is not None and too_late_for_trial(budget, self.journal.history, self._clock()) is not None
        return self.space.search.takes_folds_ahead(places, len(self._open) if is_late else self.num_trials)

    def _with_lead(self, wanted: int) -> Iterator[TrialRecord]:
        """Yields the running trials with an unassigned fold so far away; with 1, it is their next one."""
        return (self._open[number] for number in sorted(n for n, lead in self._leads.items() if lead == wanted))

    def _update_lead(self, number: int) -> None:
        """Computes the lead of a trial anew, of which something has changed."""
        self._leads.pop(number, None)
        if (trial := self._open.get(number)) is not None and (missing := self._missing(trial)):
            self._leads[number] = missing[0] - len(trial.folds)

    def _fits(self, trial: TrialRecord) -> bool:
        """Whether there is time for the rest of a running trial."""
        budget = self._time_budget
        return budget is None or fits_rest_of(trial, budget, self.journal.history, self._clock())

    @property
    def _too_late(self) -> str | None:
        budget = self._time_budget
        return None if budget is None else spent_reason(budget, self.journal.history)

    def _missing(self, trial: TrialRecord) -> list[int]:
        """Lists the folds of a trial that are neither trained nor assigned."""
        folds = range(len(trial.folds) + 1, self.space.search.num_trial_folds + 1)
        return [fold for fold in folds if fold not in trial.ahead and (trial.number, fold) not in self._assigned]

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _new_trial(self) -> TrialRecord | None:
        """Starts the proposed trial. Returns None if its configuration is invalid: that trial is recorded as failed and
        the search continues."""
        proposal = self.sampler.propose()
        number = proposal.number
        self.journal.append(
            TrialStarted(trial=number, params=proposal.params, source=proposal.source, attrs=proposal.attrs)
        )
        if proposal.config is None:
            self._end(number, "failed", proposal.problem)
            return None
        self._configs[number] = proposal.config
        self._open[number] = self.journal.history.trials[number]
        self._update_lead(number)
        return self._open[number]

    def _config(self, trial: TrialRecord) -> TrialConfig:
        """Returns the configuration of a trial: its proposal's, or after a resume that of its recorded parameters."""
        if trial.number not in self._configs:
            self._configs[trial.number] = self.space.trial_config(trial.params)
        return self._configs[trial.number]

    def _assign(self, trial: TrialRecord, folds: Sequence[int]) -> Assignment:
        config = self._config(trial)
        passed = {rung.step for rung in trial.rungs}
        steps = tuple(step for step in self._rungs(config) if step not in passed) if folds[0] == 1 else ()
        assignment = Assignment(trial.number, config, self.space.search.folds, tuple(folds), steps)
        self._note_assigned(assignment, folds)
        return assignment

    def _note_assigned(self, assignment: Assignment, folds: Iterable[int]) -> None:
        self._assigned |= {(assignment.number, fold): assignment for fold in folds}
        self._num_assigned += 1
        self._update_lead(assignment.number)

    def _release(self, number: int, fold: int) -> Assignment:
        """Releases all folds of the assignment whose worker is at `fold`, and returns the assignment."""
        assignment = self._assigned[number, fold]
        for k in assignment.folds:
            self._assigned.pop((number, k), None)
        self._num_assigned -= 1
        self._update_lead(number)
        return assignment

    def _rungs(self, config: TrialConfig) -> dict[int, float]:
        if not isinstance(self.space.search.racing, AshaRacing):
            return {}
        num_train = self._num_train.get(source_key(config.data), 0)
        return rungs(self.space.search.racing, num_fold_steps(config.training, num_train, self.space.search.folds))

    def fold_finished(self, number: int, result: FoldResult) -> Decision:
        """Records the result of a fold; the last one completes its trial. Decides whether the worker continues.

        Raises OSError, as every method that reports, if the journal cannot be written.
        """
        assignment = self._release(number, result.fold)
        rest = [k for k in assignment.folds if k > result.fold]
        decision = self._record(number, result)
        if decision is Decision.STOP or not rest:
            return Decision.STOP
        spent = spent_time(self.space.search, self._elapsed_s) is not None
        if spent or not self._fits(self.journal.history.trials[number]):
            return Decision.STOP  # the trial remains running in the journal, for `--resume`
        self._note_assigned(assignment, rest)
        return Decision.CONTINUE

    def _record(self, number: int, result: FoldResult) -> Decision:
        """Records a result: as ahead if an earlier fold is missing, not at all if its trial has ended meanwhile."""
        trial = self.journal.history.trials[number]
        if trial.state != "running":
            return Decision.STOP
        if result.fold > len(trial.folds) + 1:
            self.journal.append(FoldAhead(trial=number, result=result))
            self._update_lead(number)
            return Decision.CONTINUE
        return self._decide(self.journal.append(FoldFinished(trial=number, result=result)))

    def rung_reached(
        self, number: int, fold: int, step: int, val_top1: float, metrics: Mapping[str, float] | None = None
    ) -> Decision:
        """Records a score in the middle of a fold. Decides whether the trial continues.

        `step` is the number of optimiser steps of the fold so far, `val_top1` is in [0, 1]; `metrics` are as of a
        FoldResult.
        """
        assignment = self._release(number, fold)
        if number not in self._open:
            return Decision.STOP
        share = self._rungs(self._config(self._open[number]))[step]
        rung = RungScore(fold=fold, step=step, share=share, val_top1=val_top1, metrics=dict(metrics or {}))
        decision = self._decide(self.journal.append(RungReached(trial=number, rung=rung)))
        if decision is Decision.CONTINUE:
            self._note_assigned(assignment, [k for k in assignment.folds if k >= fold])
        return decision

    def _decide(self, event: FoldFinished | RungReached) -> Decision:
        """Decides about a recorded result, from the events before it alone; then about results that were ahead and
        are next now."""
        settings, history = self.space.search, self.journal.history
        trial = history.trials[event.trial]
        self._update_lead(trial.number)
        if len(trial.folds) >= settings.num_trial_folds:
            self._end(trial.number, "complete", "")
            return Decision.STOP
        rule = stop_reason_after_fold if isinstance(event, FoldFinished) else stop_reason_at_rung
        reason = rule(settings.racing, trial, history.totals, settings.num_trial_folds)
        if reason is not None:
            self._end(trial.number, "pruned", reason)
            return Decision.STOP
        if (ahead := trial.ahead.get(len(trial.folds) + 1)) is not None:
            return self._decide(self.journal.append(FoldFinished(trial=trial.number, result=ahead)))
        return Decision.CONTINUE

    def trial_failed(self, number: int, fold: int, reason: str) -> None:
        """Records that a trial diverged or raised an error. It is not repeated, as it would do so again."""
        self._release(number, fold)
        self._end(number, "failed", reason)

    def worker_lost(self, number: int, fold: int, reason: str) -> None:
        """Reassigns a fold whose worker died; after `MAX_LOST_WORKERS` such deaths its trial fails."""
        self._release(number, fold)
        lost = self._num_lost[number, fold] = self._num_lost.get((number, fold), 0) + 1
        if lost > MAX_LOST_WORKERS:
            self._end(number, "failed", f"its worker died {lost} times: {reason}")

    def node_lost(self, number: int, fold: int, reason: str) -> None:
        """Reassigns a fold whose worker died with its node, which is no fault of the trial; it fails if that happens
        more often within an hour than `NodeLosses` admits."""
        self._release(number, fold)
        if not self._node_losses.add((number, fold)):
            self._end(number, "failed", f"its nodes were lost more than {MAX_LOSSES_PER_HOUR} times an hour: {reason}")

    def out_of_gpu_memory(self, number: int, fold: int, gpus: float, reason: str, accelerator: str = "") -> None:
        """Records that a share `gpus` of a GPU, of the kind `accelerator` where that was chosen, was too small.

        From now on all trials get a larger one, and this one is restarted, which does not count as a lost worker. If it
        had a whole GPU, it fails.
        """
        self._release(number, fold)
        larger = next_larger_share(gpus)
        if larger is None:
            self._end(number, "failed", f"it does not fit on a whole GPU: {reason}")
            return
        if larger > (
            self.journal.history.gpus_on(accelerator) or 0.0
        ):  # else it is recorded already, for another trial
            why = without_credentials(reason)
            self.journal.append(ShareGrown(gpus=larger, trial=number, reason=why, accelerator=accelerator))

    def _end(self, number: int, state: EndState, reason: str) -> None:
        """Records the end of a trial, once. Results of its other workers, which still train, are discarded."""
        trial = self.journal.history.trials[number]
        if trial.state != "running":
            return
        self._open.pop(number, None)
        self._configs.pop(number, None)
        self._update_lead(number)
        assigned = ((k, self._assigned.get((number, k))) for k in range(1, self.space.search.num_trial_folds + 1))
        at = {k for k, assignment in assigned if assignment is not None and k == self.fold_at(assignment)}
        discarded = tuple(sorted(at | trial.ahead.keys()))
        reason = without_credentials(reason)
        self.journal.append(TrialEnded(trial=number, state=state, reason=reason, discarded=discarded))
        self.sampler.tell(trial)
