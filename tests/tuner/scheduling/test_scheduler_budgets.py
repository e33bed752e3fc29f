"""A search that ends at a budget: when, and what of it stays open."""

from __future__ import annotations

from contextlib import closing

from tests.tuner.scheduling.workers import next_of, resumed, run_to_end, scheduler_of
from tests.tuner.tiny import fold, space_of
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.scheduling.scheduler import Decision, TrialScheduler


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class TestBudgets:
    def test_at_the_timeout_trials_stop_after_their_fold_and_stay_open(self, journal: SearchJournal) -> None:
        clock, space = Clock(), space_of(search__timeout_s=60, search__trials=3)
        scheduler = TrialScheduler(space, journal, clock)
        first, second = next_of(scheduler).number, next_of(scheduler).number
        clock.now += 60
        assert scheduler.next_assignment() is None
        assert not scheduler.done  # two are at work
        assert scheduler.fold_finished(first, fold(1, 0.5)) is Decision.STOP
        assert not scheduler.done
        assert scheduler.fold_finished(second, fold(1, 0.5)) is Decision.STOP
        assert scheduler.done
        assert scheduler.stop_reason == "search.timeout_s = 60 is spent"
        assert [trial.state for trial in journal.history.trials.values()] == ["running", "running"]
        with closing(open_search_journal(journal.directory)) as reopened:
            later = TrialScheduler(space_of(search__timeout_s=60, search__trials=3), reopened, clock)
            assert [(a.number, a.folds) for a in (next_of(later), next_of(later))] == [(0, (2,)), (1, (2,))]

    def test_a_last_fold_at_the_timeout_still_completes_its_trial(self, journal: SearchJournal) -> None:
        clock = Clock()
        scheduler = TrialScheduler(space_of(search__timeout_s=60, search__trials=1), journal, clock)
        next_of(scheduler)
        scheduler.fold_finished(0, fold(1, 0.5))
        clock.now += 60
        scheduler.fold_finished(0, fold(2, 0.5))
        assert scheduler.done
        assert scheduler.stop_reason == "the only trial has ended"

    def test_a_worker_lost_after_the_timeout_ends_the_search(self, journal: SearchJournal) -> None:
        clock = Clock()
        scheduler = TrialScheduler(space_of(search__timeout_s=60), journal, clock)
        next_of(scheduler)
        clock.now += 60
        scheduler.worker_lost(0, 2, "SIGKILL")
        assert scheduler.done
        assert journal.history.trials[0].state == "running"

    def test_fold_trainings_are_never_exceeded_nor_a_trial_left_half_done(self, journal: SearchJournal) -> None:
        scheduler = scheduler_of(journal, search__max_fold_trainings=3)
        run_to_end(scheduler)
        assert [trial.state for trial in journal.history.trials.values()] == ["complete"]
        assert "max_fold_trainings = 3 is spent" in (scheduler.stop_reason or "")
        run_to_end(resumed(journal, search__max_fold_trainings=4))

    def test_a_plateau_ends_it_and_another_goes_on(self, journal: SearchJournal) -> None:
        def scheduler(to: SearchJournal, trials: int, plateau: int) -> TrialScheduler:
            return TrialScheduler(space_of(search__trials=trials, search__plateau={"trials": plateau}), to)

        def run_equal(to: TrialScheduler) -> int:
            while (assignment := to.next_assignment()) is not None:
                for k in (1, 2):
                    to.fold_finished(assignment.number, fold(k, 0.5))
            return len(to.journal.history.trials)

        first = scheduler(journal, trials=9, plateau=2)
        assert run_equal(first) == 3
        assert first.stop_reason == "no gain above 0 in 2 trials (search.plateau)"
        assert run_equal(scheduler(open_search_journal(journal.directory), trials=9, plateau=2)) == 3
        assert run_equal(scheduler(open_search_journal(journal.directory), trials=9, plateau=4)) == 5
        last = scheduler(open_search_journal(journal.directory), trials=7, plateau=40)
        assert run_equal(last) == 7
        assert last.stop_reason == "all 7 trials have ended"

    def test_a_finite_space_ends_when_it_has_been_tried(self, journal: SearchJournal) -> None:
        choices = {"method__gamma_fe": {"choice": [0.02, 0.03]}, "method__alpha": 0.2}
        scheduler = TrialScheduler(space_of(**choices), journal)
        run_to_end(scheduler)
        assert len(journal.history.trials) == 2
        assert scheduler.stop_reason == "every configuration has been tried"
