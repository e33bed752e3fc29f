"""Schedulers of tiny searches, and workers that train nothing."""

from __future__ import annotations

from typing import Any

from tests.tuner.tiny import fold, space_of
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.scheduling.assignment import Assignment
from tuner.scheduling.scheduler import Decision, TrialScheduler


def scheduler_of(journal: SearchJournal, **changes: Any) -> TrialScheduler:
    return TrialScheduler(space_of(search__trials=2, **changes), journal)


def resumed(journal: SearchJournal, **changes: Any) -> TrialScheduler:
    return scheduler_of(open_search_journal(journal.directory), **changes)


def next_of(scheduler: TrialScheduler, places: int = 1) -> Assignment:
    assignment = scheduler.next_assignment(places)
    assert assignment is not None
    return assignment


def run_to_end(scheduler: TrialScheduler) -> dict[int, dict[str, Any]]:
    """One trial after the other; the parameters of each."""
    while (assignment := scheduler.next_assignment()) is not None:
        train(scheduler, assignment)
    assert scheduler.done
    return {trial.number: trial.params for trial in scheduler.journal.history.trials.values()}


def train(scheduler: TrialScheduler, assignment: Assignment) -> None:
    """A worker: scores alpha, with noise that only the trial and the fold decide, for as long as it may go on."""
    number, score = assignment.number, assignment.config.method.alpha
    for k in assignment.folds:
        for step in assignment.rungs if k == 1 else ():
            if scheduler.rung_reached(number, k, step, score * step / 90) is Decision.STOP:
                return
        if scheduler.fold_finished(number, fold(k, score + 0.02 * ((number + k) % 3))) is Decision.STOP:
            return
