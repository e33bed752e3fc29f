"""A search in which trials are stopped early: cut off anywhere, it decides the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tuner.scheduling.workers import next_of, resumed, run_to_end, scheduler_of
from tests.tuner.tiny import fold, space_of
from trainables.data.loading import source_key
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.scheduling.scheduler import Decision, TrialScheduler

RACES: dict[str, dict[str, Any]] = {
    "folds": {"search__racing": {"rule": "folds"}},
    "median": {"search__racing": {"rule": "median"}},
    "asha": {"search__racing": {"rule": "asha"}},
}


@pytest.mark.parametrize("rule", RACES)
class TestRacing:
    def scheduler(self, journal: SearchJournal, rule: str) -> TrialScheduler:
        folds = {"search__folds": 3, "search__trials": 8, "search__sampler": "random", "training__num_steps": 90}
        return TrialScheduler(space_of(**folds, **RACES[rule], search__first_points=[{"alpha": 0.1}]), journal)

    def told(self, journal: SearchJournal) -> list[tuple[Any, ...]]:
        trials = journal.history.trials.values()
        return [(t.number, t.params, t.state, t.reason, t.fold_scores, len(t.rungs)) for t in trials]

    def test_stops_some_and_keeps_the_best_and_the_first_point(self, journal: SearchJournal, rule: str) -> None:
        run_to_end(self.scheduler(journal, rule))
        trials = journal.history.trials
        assert len(trials) == 8
        pruned = [trial for trial in trials.values() if trial.state == "pruned"]
        assert pruned
        assert all(trial.reason.startswith("after ") and trial.num_trained < 3 for trial in pruned)
        best = max(trials.values(), key=lambda trial: trial.params["method.alpha"])
        assert best.state == trials[0].state == "complete"

    def test_optuna_is_told_that_they_were_stopped(self, journal: SearchJournal, rule: str) -> None:
        scheduler = self.scheduler(journal, rule)
        run_to_end(scheduler)
        for live, trial in zip(scheduler.sampler._study.trials, journal.history.trials.values(), strict=True):
            assert live.state.name == trial.state.upper()
            assert bool(live.intermediate_values) == (trial.state == "pruned")
            assert trial.state == "pruned" or live.value == trial.val_top1
        best = scheduler.sampler._study.best_trial
        assert best.value == max(t.val_top1 or 0.0 for t in journal.history.trials.values())

    def test_cut_off_at_any_line_it_decides_the_same(self, journal: SearchJournal, rule: str) -> None:
        run_to_end(self.scheduler(journal, rule))
        whole = self.told(journal)
        lines = journal.path.read_text().splitlines(keepends=True)
        undecided = [i for i, line in enumerate(lines) if '"state":"pruned"' in line]
        for num_lines in (2, *range(6, len(lines), 9), *undecided[:3]):
            journal.path.write_text("".join(lines[:num_lines]))
            second = open_search_journal(journal.directory)
            run_to_end(self.scheduler(second, rule))
            assert self.told(second) == whole
            second.close()


def test_a_decision_that_a_crash_cut_off_is_made_with_what_was_known_then(journal: SearchJournal) -> None:
    """Two at once: what the first went on with is not decided again when the second has made the bar higher."""
    space = space_of(search__folds=3, search__racing={"rule": "folds", "min_complete": 2}, search__trials=5)
    scheduler = TrialScheduler(space, journal)
    numbers = [next_of(scheduler).number for _ in range(4)]
    for k in (1, 2, 3):
        scheduler.fold_finished(0, fold(k, 0.5))
    assert scheduler.fold_finished(1, fold(1, 0.2)) is Decision.CONTINUE  # one complete trial is not enough
    for k in (1, 2, 3):
        scheduler.fold_finished(2, fold(k, 0.9 + 0.01 * k))
    assert scheduler.fold_finished(3, fold(1, 0.2)) is Decision.STOP
    last = journal.path.read_text().splitlines(keepends=True)[:-1]
    journal.path.write_text("".join(last))
    again = TrialScheduler(space, open_search_journal(journal.directory))
    states = {number: again.journal.history.trials[number].state for number in numbers}
    assert states == {0: "complete", 1: "running", 2: "complete", 3: "pruned"}


def test_rungs_of_a_length_in_epochs_are_those_of_the_first_fold(journal: SearchJournal) -> None:
    asha: dict[str, Any] = {"search__racing": {"rule": "asha"}, "training__num_steps": None, "training__num_epochs": 30}
    space = space_of(**asha)
    key = source_key(next(space.boundary_configs()).data)
    scheduler = TrialScheduler(space, journal, num_train={key: 49})  # 24 in the first fold: 3 batches of 8, 90 steps
    assert next_of(scheduler).rungs == (10, 30)


def test_a_rung_that_was_passed_is_not_asked_for_again(journal: SearchJournal) -> None:
    asha: dict[str, Any] = {"search__racing": {"rule": "asha"}, "training__num_steps": 90}
    scheduler = scheduler_of(journal, **asha)
    assert next_of(scheduler).rungs == (10, 30)
    assert scheduler.rung_reached(0, 1, 10, 0.5) is Decision.CONTINUE
    assert next_of(resumed(journal, **asha)).rungs == (30,)
    scheduler.fold_finished(0, fold(1, 0.5))
    assert next_of(resumed(journal, **asha)).rungs == ()
