"""A search over alternatives: racing compares all of them, and a journal is gone on with at any trial."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import METHODS, TRAININGS, fold, search_journal, space_of
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.journal import SearchJournal
from tuner.scheduling.scheduler import Decision, TrialScheduler

MEANS = {"l2": 0.6, "mixup": 0.75, "smile": 0.9}
NUM_TRIALS = 14


def space_with(**changes: Any) -> SearchExperiment:
    racing = {"rule": "folds", "min_complete": 3}
    settings = {"search__trials": NUM_TRIALS, "search__folds": 3, "search__racing": racing}
    return space_of(method=METHODS, training=TRAININGS, **settings, **changes)


def search(space: SearchExperiment, journal: SearchJournal, most: int | None = None) -> None:
    """Runs trials one after the other, at most so many, on scores that depend on the method."""
    scheduler = TrialScheduler(space, journal)
    while (assignment := scheduler.next_assignment()) is not None:
        trial = journal.history.trials[assignment.number]
        for k in assignment.folds:
            noise = random.Random(f"{trial.number} {k}").gauss(0, 0.01)
            decision = scheduler.fold_finished(trial.number, fold(k, MEANS[trial.params["method"]] + noise))
            if decision is Decision.STOP:
                break
        if most is not None and len(journal.history.trials) >= most:
            return


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SearchJournal:
    journal = search_journal(tmp_path_factory.mktemp("whole"))
    search(space_with(), journal)
    journal.close()
    return journal


def test_racing_compares_trials_of_all_alternatives(whole: SearchJournal) -> None:
    trials = list(whole.history.trials.values())
    assert len(trials) == NUM_TRIALS
    stopped = {trial.params["method"] for trial in trials if trial.state == "pruned"}
    assert stopped
    assert "smile" not in stopped


@pytest.mark.parametrize("interrupted_at", [2, 7, 12])
def test_a_resumed_search_tries_what_it_would_have(whole: SearchJournal, tmp_path: Path, interrupted_at: int) -> None:
    first = search_journal(tmp_path)
    search(space_with(), first, most=interrupted_at)
    first.close()
    again = search_journal(tmp_path)
    search(space_with(), again)
    tried = [trial.params for trial in again.history.trials.values()]
    assert tried == [trial.params for trial in whole.history.trials.values()]
