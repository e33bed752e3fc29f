"""Which trial runs next and what becomes of it, without Ray: proposals in, journal out.

Ray Tune asks `next_assignment` whenever it has room and reports each fold; everything decided here is in the journal
before it is acted on, so a search can be cut off at any line and taken up again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from trainables.config import TrialConfig
from tuner.budgets import why_enough, why_no_time
from tuner.journal import Event, Journal, TrialRecord
from tuner.problems import from_pydantic
from tuner.proposals import Proposer
from tuner.racing import rungs, why_stop, why_stop_at_rung
from tuner.redaction import without_credentials
from tuner.space import SearchSpace, flatten

MAX_LOST = 2
"""How often a trial whose worker died is started again before it counts as failed."""


@dataclass(frozen=True)
class Assignment:
    """A trial for a worker. Folds before `first_fold` (counted from 1) are in the journal already.

    At the steps `rungs` of its first fold the worker scores what it has, and asks whether to go on.
    """

    number: int
    config: TrialConfig
    num_folds: int
    first_fold: int
    rungs: tuple[int, ...] = ()


class Conductor:
    """Hands out trials, stops those that are hopeless or that a budget cuts off, and records their ends."""

    def __init__(self, space: SearchSpace, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self.space = space
        self.journal = journal
        self.proposer = Proposer(space, journal.history.trials, journal.history.warm_started)
        self.num_trials = space.search.trials if space.dimensions else 1
        self._clock = clock
        self._started_s = clock()
        self._waiting = deque(t.number for t in journal.history.trials.values() if t.state == "running")
        self._at_work: set[int] = set()
        self._times_lost: dict[int, int] = {}
        self._decide_what_was_not()

    @property
    def done(self) -> bool:
        """Whether no trial is at work and none is to be started."""
        return not self._at_work and self.why is not None

    @property
    def why(self) -> str | None:
        """Why no trial is to be started: all have ended, or a budget is spent; None while one is."""
        settings, history = self.space.search, self.journal.history
        if self._waiting:  # what has begun needs no other budget
            return why_no_time(settings, self._elapsed_s)
        enough = why_enough(settings, self.num_trials, history, self._elapsed_s)
        return enough or ("every configuration has been tried" if self.proposer.exhausted else None)

    @property
    def ending(self) -> str:
        """Why there were no more trials, once Ray Tune asks for none."""
        return self.why or "the cluster has stopped taking trials"

    def next_assignment(self) -> Assignment | None:
        """A trial that was cut off, or a new one; None while none is to be started."""
        while self.why is None:
            number = self._waiting.popleft() if self._waiting else self._new_trial()
            if number is not None:
                self._at_work.add(number)
                return self._assignment(self.journal.history.trials[number])
        return None

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _decide_what_was_not(self) -> None:
        """A search may have been cut off between a trial's result and what is decided about it."""
        undecided = self.journal.history.undecided
        if undecided is not None:
            self._goes_on(undecided)
        self._waiting = deque(n for n in self._waiting if self.journal.history.trials[n].state == "running")

    def _new_trial(self) -> int | None:
        """Starts the trial that the sampler proposes; None where it cannot be, which ends it and no other."""
        proposal = self.proposer.propose()
        start = {"trial": proposal.number, "params": proposal.params}
        origin = {"source": proposal.source, "attrs": proposal.attrs}
        try:
            config = self.space.trial_config(proposal.params)
        except ValidationError as error:  # a combination beyond those that were checked before the search
            self.journal.append("trial_started", **start, config={}, **origin)
            said = "; ".join(map(str, from_pydantic(error, TrialConfig)))
            self._end(proposal.number, "failed", f"its configuration is invalid: {said}")
            return None
        self.journal.append("trial_started", **start, config=flatten(config.model_dump(mode="json")), **origin)
        return proposal.number

    def _assignment(self, record: TrialRecord) -> Assignment:
        config = self.space.trial_config(record.params)
        passed = {rung["step"] for rung in record.rungs}
        steps = () if record.folds else tuple(step for step in self._rungs(config) if step not in passed)
        return Assignment(record.number, config, self.space.search.folds, len(record.folds) + 1, steps)

    def _rungs(self, config: TrialConfig) -> dict[int, float]:
        return rungs(self.space.search.racing, config.training.num_steps)

    def fold_finished(self, number: int, result: dict[str, Any]) -> bool:
        """Takes in a fold; the last one completes its trial. Returns whether the trial goes on to another."""
        goes_on = self._goes_on(self.journal.append("fold_finished", trial=number, result=result))
        if goes_on and why_no_time(self.space.search, self._elapsed_s) is not None:
            self._at_work.discard(number)
            self._waiting.append(number)  # it stays open in the journal, for `--resume`
            return False
        return goes_on

    def rung_reached(self, number: int, fold: int, step: int, val_top1: float) -> bool:
        """Takes in what a trial scores in the middle of a fold. Returns whether it goes on."""
        share = self._rungs(self.space.trial_config(self.journal.history.trials[number].params))[step]
        scored = {"fold": fold, "step": step, "share": share, "val_top1": val_top1}
        return self._goes_on(self.journal.append("rung_reached", trial=number, **scored))

    def _goes_on(self, event: Event) -> bool:
        """Decides about a result that is in the journal, from what stands before it there and nothing else."""
        settings, trials = self.space.search, self.journal.history.trials
        trial = trials[event["trial"]]
        if len(trial.folds) >= settings.folds:
            self._end(trial.number, "complete", "")
            return False
        decide = why_stop if event["event"] == "fold_finished" else why_stop_at_rung
        reason = decide(settings.racing, trial, trials.values(), settings.folds)
        if reason is not None:
            self._end(trial.number, "pruned", reason)
        return reason is None

    def trial_failed(self, number: int, reason: str) -> None:
        """The trial itself broke: it diverged, or its code raised. It would break again, so it is not repeated."""
        self._end(number, "failed", reason)

    def worker_lost(self, number: int, reason: str) -> None:
        """The trial's process died under it: it goes on from its last finished fold, unless that happened too often."""
        if number not in self._at_work:
            return
        self._times_lost[number] = self._times_lost.get(number, 0) + 1
        if self._times_lost[number] > MAX_LOST:
            self._end(number, "failed", f"its worker died {self._times_lost[number]} times: {reason}")
        else:
            self._at_work.discard(number)
            self._waiting.append(number)

    def _end(self, number: int, state: str, reason: str) -> None:
        self._at_work.discard(number)
        self.journal.append("trial_finished", trial=number, state=state, reason=without_credentials(reason))
        self.proposer.tell(self.journal.history.trials[number])
