"""Which trial runs next and what becomes of it, without Ray: proposals in, journal out.

Ray Tune asks `next_assignment` whenever it has room and reports each fold; everything decided here is in the journal
before it is acted on, so a search can be cut off at any line and taken up again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from trainables.config import TrialConfig
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.tree import flatten
from tuner.messages.redaction import without_credentials
from tuner.messages.validation import problems_from_pydantic
from tuner.record.events import Event
from tuner.record.history import TrialRecord
from tuner.record.journal import Journal
from tuner.resources.gpu_memory import next_larger_share
from tuner.scheduling.budgets import why_enough, why_no_time
from tuner.scheduling.racing import rungs, why_stop, why_stop_at_rung
from tuner.scheduling.sampler import TrialSampler

MAX_LOST = 2
"""How often a trial whose worker died is started again before it counts as failed."""


@dataclass(frozen=True)
class Assignment:
    """Folds of a trial (of `num_folds` in all, counted from 1) for one worker: those that are missing, or a single one,
    where others may take the rest.

    At the steps `rungs` of fold 1 the worker scores what it has, and asks whether to go on.
    """

    number: int
    config: TrialConfig
    num_folds: int
    folds: tuple[int, ...]
    rungs: tuple[int, ...] = ()


class TrialScheduler:
    """Hands out trials, stops those that are hopeless or that a budget cuts off, and records their ends."""

    def __init__(self, space: SearchExperiment, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self.space = space
        self.journal = journal
        self.sampler = TrialSampler(space, journal.history.trials, journal.history.warm_started)
        self.num_trials = space.search.trials if space.dimensions else 1
        self._clock = clock
        self._started_s = clock()
        self._open = {t.number: t for t in journal.history.trials.values() if t.state == "running"}
        self._at_work: dict[tuple[int, int], Assignment] = {}  # by trial and fold: also what a worker has yet to do
        self._times_lost: dict[tuple[int, int], int] = {}
        self._decide_what_was_not()

    @property
    def done(self) -> bool:
        """Whether nobody is at work and no trial is to be started."""
        return not self._at_work and self.why is not None

    @property
    def num_at_work(self) -> int:
        """Assignments that have been handed out and not come back."""
        return sum(fold == assignment.folds[-1] for (_, fold), assignment in self._at_work.items())

    @property
    def why(self) -> str | None:
        """Why no trial is to be started: all have ended, or a budget is spent; None while one is."""
        settings, history = self.space.search, self.journal.history
        if self._waiting is not None:  # what has begun needs no other budget
            return why_no_time(settings, self._elapsed_s)
        enough = why_enough(settings, self.num_trials, history, self._elapsed_s)
        return enough or ("every configuration has been tried" if self.sampler.exhausted else None)

    @property
    def ending(self) -> str:
        """Why there were no more trials, once Ray Tune asks for none."""
        return self.why or "the cluster has stopped taking trials"

    def next_assignment(self, places: int = 1) -> Assignment | None:
        """A trial that was cut off, or a new one; where neither is to be started and folds are trained in parallel, a
        later fold of one that runs. None while there is nothing. `places` are there for assignments, taken or not."""
        ahead = self.space.search.takes_folds_ahead(places, self.num_trials)
        while self.why is None:
            trial = self._waiting or self._new_trial()
            if trial is not None:
                missing = self._missing(trial)
                return self._handed_out(trial, missing[:1] if ahead else missing)
        if not ahead or why_no_time(self.space.search, self._elapsed_s) is not None:
            return None
        later = [(trial, fold) for trial in self._open.values() for fold in self._missing(trial)[:1]]
        if not later:
            return None
        trial, fold = min(later, key=lambda each: each[1] - len(each[0].folds))  # with the fewest decisions to come
        return self._handed_out(trial, [fold])

    def fold_at(self, assignment: Assignment) -> int | None:
        """The fold that the worker of an assignment is at; None where it has come back."""
        return next((k for k in assignment.folds if self._at_work.get((assignment.number, k)) == assignment), None)

    @property
    def _waiting(self) -> TrialRecord | None:
        """The first trial that has begun and whose next fold nobody is at."""
        return next((t for t in self._open.values() if (t.number, len(t.folds) + 1) not in self._at_work), None)

    def _missing(self, trial: TrialRecord) -> list[int]:
        """The folds of a trial that are not trained, and that nobody is at or has yet to do."""
        folds = range(len(trial.folds) + 1, self.space.search.folds + 1)
        return [fold for fold in folds if fold not in trial.ahead and (trial.number, fold) not in self._at_work]

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _decide_what_was_not(self) -> None:
        """A search may have been cut off between a trial's result and what is decided about it."""
        undecided = self.journal.history.undecided
        if undecided is not None:
            self._goes_on(undecided)

    def _new_trial(self) -> TrialRecord | None:
        """Starts the trial that the sampler proposes; None where it cannot be, which ends it and no other."""
        proposal = self.sampler.propose()
        start = {"trial": proposal.number, "params": proposal.params}
        origin = {"source": proposal.source, "attrs": proposal.attrs}
        try:
            config = self.space.trial_config(proposal.params)
        except ValidationError as error:  # a combination beyond those that were checked before the search
            self.journal.append("trial_started", **start, config={}, **origin)
            said = "; ".join(map(str, problems_from_pydantic(error, TrialConfig)))
            self._end(proposal.number, "failed", f"its configuration is invalid: {said}")
            return None
        self.journal.append("trial_started", **start, config=flatten(config.model_dump(mode="json")), **origin)
        self._open[proposal.number] = self.journal.history.trials[proposal.number]
        return self._open[proposal.number]

    def _handed_out(self, trial: TrialRecord, folds: Sequence[int]) -> Assignment:
        config = self.space.trial_config(trial.params)
        passed = {rung["step"] for rung in trial.rungs}
        steps = tuple(step for step in self._rungs(config) if step not in passed) if folds[0] == 1 else ()
        assignment = Assignment(trial.number, config, self.space.search.folds, tuple(folds), steps)
        self._put_to_work(assignment, folds)
        return assignment

    def _put_to_work(self, assignment: Assignment, folds: Iterable[int]) -> None:
        self._at_work |= {(assignment.number, fold): assignment for fold in folds}

    def _come_back(self, number: int, fold: int) -> Assignment:
        """What the worker that is at that fold was given, of which nothing is at work any more."""
        assignment = self._at_work[number, fold]
        for k in assignment.folds:
            self._at_work.pop((number, k), None)
        return assignment

    def _rungs(self, config: TrialConfig) -> dict[int, float]:
        return rungs(self.space.search.racing, config.training.num_steps)

    def fold_finished(self, number: int, result: dict[str, Any]) -> bool:
        """Takes in a fold; the last one completes its trial. Returns whether the worker goes on to another."""
        fold = result["fold"]
        worker = self._come_back(number, fold)
        rest = [k for k in worker.folds if k > fold]
        goes_on = self._taken_in(number, result) and bool(rest)
        if goes_on and why_no_time(self.space.search, self._elapsed_s) is not None:
            return False  # the trial stays open in the journal, for `--resume`
        if goes_on:
            self._put_to_work(worker, rest)
        return goes_on

    def _taken_in(self, number: int, result: dict[str, Any]) -> bool:
        """Whether the trial goes on. What comes before its turn waits for it; what comes too late is dropped."""
        trial = self.journal.history.trials[number]
        if trial.state != "running":
            return False
        if result["fold"] > len(trial.folds) + 1:
            self.journal.append("fold_ahead", trial=number, result=result)
            return True
        return self._goes_on(self.journal.append("fold_finished", trial=number, result=result))

    def rung_reached(self, number: int, fold: int, step: int, val_top1: float) -> bool:
        """Takes in what a trial scores in the middle of a fold. Returns whether it goes on."""
        worker = self._come_back(number, fold)
        goes_on = number in self._open and self._passes(number, fold, step, val_top1)
        if goes_on:
            self._put_to_work(worker, [k for k in worker.folds if k >= fold])
        return goes_on

    def _passes(self, number: int, fold: int, step: int, val_top1: float) -> bool:
        share = self._rungs(self.space.trial_config(self.journal.history.trials[number].params))[step]
        scored = {"fold": fold, "step": step, "share": share, "val_top1": val_top1}
        return self._goes_on(self.journal.append("rung_reached", trial=number, **scored))

    def _goes_on(self, event: Event) -> bool:
        """Decides about a result that is in the journal, from what stands before it there and nothing else; then about
        those that were ahead, as the turn comes to each."""
        settings, trials = self.space.search, self.journal.history.trials
        trial = trials[event["trial"]]
        if len(trial.folds) >= settings.folds:
            self._end(trial.number, "complete", "")
            return False
        decide = why_stop if event["event"] == "fold_finished" else why_stop_at_rung
        reason = decide(settings.racing, trial, trials.values(), settings.folds)
        if reason is not None:
            self._end(trial.number, "pruned", reason)
            return False
        if (ahead := trial.ahead.get(len(trial.folds) + 1)) is not None:
            return self._goes_on(self.journal.append("fold_finished", trial=trial.number, result=ahead))
        return True

    def trial_failed(self, number: int, fold: int, reason: str) -> None:
        """The trial itself broke: it diverged, or its code raised. It would break again, so it is not repeated."""
        self._come_back(number, fold)
        self._end(number, "failed", reason)

    def worker_lost(self, number: int, fold: int, reason: str) -> None:
        """The process died under a fold: it is trained again, unless that happened too often."""
        self._come_back(number, fold)
        lost = self._times_lost[number, fold] = self._times_lost.get((number, fold), 0) + 1
        if lost > MAX_LOST:
            self._end(number, "failed", f"its worker died {lost} times: {reason}")

    def out_of_memory(self, number: int, fold: int, gpus: float, reason: str) -> None:
        """A share `gpus` of a card was too little for the trial: from now on all get more of one, and it is started
        again, which does not count as a loss; with a whole card it fails."""
        self._come_back(number, fold)
        larger = next_larger_share(gpus)
        if larger is None:
            self._end(number, "failed", f"a whole card is too small for it: {reason}")
            return
        if larger > (self.journal.history.gpus or 0.0):  # or else another trial has found it out before
            reason = without_credentials(reason)
            self.journal.append("share_grown", gpus=larger, trial=number, reason=reason)

    def _end(self, number: int, state: str, reason: str) -> None:
        """Ends a trial, once. Its other workers come back when their folds are trained, which is then for nothing."""
        trial = self.journal.history.trials[number]
        if trial.state != "running":
            return
        self._open.pop(number, None)
        at = {k for (of, k), worker in self._at_work.items() if of == number and k == self.fold_at(worker)}
        said = {"discarded": sorted(at | trial.ahead.keys())} if at or trial.ahead else {}
        reason = without_credentials(reason)
        self.journal.append("trial_finished", trial=number, state=state, reason=reason, **said)
        self.sampler.tell(trial)
