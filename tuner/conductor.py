"""Which trial runs next and what becomes of it, without Ray: proposals in, journal out.

Ray Tune asks `next_assignment` whenever it has room and reports each fold; everything decided here is in the journal
before it is acted on, so a search can be cut off at any line and taken up again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from trainables.config import TrialConfig
from tuner.journal import Journal, TrialRecord
from tuner.problems import from_pydantic
from tuner.proposals import Proposal, Proposer
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
    """Hands out trials and records their ends."""

    def __init__(self, space: SearchSpace, journal: Journal) -> None:
        self.space = space
        self.journal = journal
        self.proposer = Proposer(space, journal.history.trials)
        self.num_trials = space.search.trials if space.dimensions else 1
        self._waiting = deque(t.number for t in journal.history.trials.values() if t.state == "running")
        self._times_lost: dict[int, int] = {}
        self._end_what_is_whole()

    @property
    def done(self) -> bool:
        """Whether every trial has ended."""
        trials = self.journal.history.trials
        return len(trials) >= self.num_trials and all(t.state != "running" for t in trials.values())

    def next_assignment(self) -> Assignment | None:
        """A trial that was cut off, or a new one; None while none is to be started."""
        if self._waiting:
            return self._assignment(self.journal.history.trials[self._waiting.popleft()])
        if len(self.journal.history.trials) >= self.num_trials:
            return None
        proposal = self.proposer.propose()
        try:
            config = self.space.trial_config(proposal.params)
        except ValidationError as error:  # a combination beyond those that were checked before the search
            return self._refused(proposal, error)
        self.journal.append(
            "trial_started",
            trial=proposal.number,
            params=proposal.params,
            config=flatten(config.model_dump(mode="json")),
            source=proposal.source,
            attrs=proposal.attrs,
        )
        return self._assignment(self.journal.history.trials[proposal.number])

    def _end_what_is_whole(self) -> None:
        """A search may have been cut off between a trial's last fold and the line that ends the trial."""
        for number in list(self._waiting):
            if len(self.journal.history.trials[number].folds) >= self.space.search.folds:
                self._waiting.remove(number)
                self._end(number, "complete", "")

    def _refused(self, proposal: Proposal, error: ValidationError) -> Assignment | None:
        """Ends a trial that cannot be, and goes on to the next."""
        start = {"params": proposal.params, "config": {}, "source": proposal.source, "attrs": proposal.attrs}
        self.journal.append("trial_started", trial=proposal.number, **start)
        said = "; ".join(map(str, from_pydantic(error, TrialConfig)))
        self._end(proposal.number, "failed", f"its configuration is invalid: {said}")
        return self.next_assignment()

    def _assignment(self, record: TrialRecord) -> Assignment:
        folds = self.space.search.folds
        return Assignment(record.number, self.space.trial_config(record.params), folds, len(record.folds) + 1)

    def fold_finished(self, number: int, result: dict[str, Any]) -> bool:
        """Takes in a fold; the last one completes its trial. Returns whether the trial goes on to another."""
        self.journal.append("fold_finished", trial=number, result=result)
        if len(self.journal.history.trials[number].folds) >= self.space.search.folds:
            self._end(number, "complete", "")
            return False
        return True

    def rung_reached(self, number: int, fold: int, step: int, val_top1: float) -> bool:
        """Takes in what a trial scores in the middle of a fold. Returns whether it goes on."""
        return True

    def trial_failed(self, number: int, reason: str) -> None:
        """The trial itself broke: it diverged, or its code raised. It would break again, so it is not repeated."""
        self._end(number, "failed", reason)

    def worker_lost(self, number: int, reason: str) -> None:
        """The trial's process died under it: it goes on from its last finished fold, unless that happened too often."""
        if self.journal.history.trials[number].state != "running":
            return
        self._times_lost[number] = self._times_lost.get(number, 0) + 1
        if self._times_lost[number] > MAX_LOST:
            self._end(number, "failed", f"its worker died {self._times_lost[number]} times: {reason}")
        else:
            self._waiting.append(number)

    def _end(self, number: int, state: str, reason: str) -> None:
        self.journal.append("trial_finished", trial=number, state=state, reason=reason)
        self.proposer.tell(self.journal.history.trials[number])
