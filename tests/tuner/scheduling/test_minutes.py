"""The budget of minutes over simulated searches: no training, and a clock that only the simulation moves."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.tuner.scheduling.workers import next_of
from tests.tuner.tiny import fold, history_of, record, space_of
from trainables.errors import BadInput
from trainables.seeding import rng_for
from tuner.experiment.checks import check_experiment
from tuner.experiment.timing import StepTimes
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.record.selection import best_trial
from tuner.scheduling.minutes import (
    CLOSING_S,
    TimeBudget,
    closing_s,
    expected_folds,
    fits_rest_of,
    mean_fold_s,
    seeds_in_time,
    too_late_for_trial,
)
from tuner.scheduling.scheduler import Decision, TrialScheduler


def budget_of(**changes: Any) -> TimeBudget:
    settings = {
        "started_s": 0.0,
        "limit_s": 600.0,
        "num_folds": 3,
        "num_retrainings": 4,
        "places": 2,
        "fold_s": 10.0,
        "retraining_s": 15.0,
    }
    return TimeBudget(**{**settings, **changes})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Simulation:
    """A search of `places` workers, each of which trains one fold after the other; `seconds` gives the time of each."""

    def __init__(
        self,
        journal: SearchJournal,
        budget: TimeBudget,
        seconds: Callable[[int, int], float],
        score: Callable[[int, int], float],
        **changes: Any,
    ) -> None:
        self.clock, self.budget, self.seconds, self.score = Clock(), budget, seconds, score
        limits = {"search__folds": budget.num_folds, "search__trials": None, "search__minutes": 10}
        settings = {**limits, "search__sampler": "random", **changes}  # TPE would take most of the test's time
        self.scheduler = TrialScheduler(space_of(**settings), journal, self.clock, time_budget=budget)

    @property
    def trials(self) -> list[Any]:
        return list(self.scheduler.journal.history.trials.values())

    def run(self) -> float:
        """Runs the trials and the retraining of the best. Returns when the command ends."""
        busy: list[tuple[float, int, int, int, tuple[int, ...]]] = []
        order = 0
        while True:
            while len(busy) < self.budget.places:
                assignment = self.scheduler.next_assignment(self.budget.places)
                if assignment is None:
                    break
                order += 1
                self._begin(busy, order, assignment.number, assignment.folds)
            if not busy:
                break
            self.clock.now, order_of, number, k, rest = heapq.heappop(busy)
            took_s = self.seconds(number, k)
            decision = self.scheduler.fold_finished(number, fold(k, self.score(number, k), took_s))
            if decision is Decision.CONTINUE:
                self._begin(busy, order_of, number, rest)
        assert self.scheduler.done
        best = best_trial(self.trials)
        assert best is not None
        ratio = self.budget.retraining_s / self.budget.fold_s
        each_s = ratio * best.training_duration_s / len(best.folds)
        return self.clock.now + self.budget.rounds_s(self.budget.num_retrainings, each_s) + CLOSING_S

    def _begin(self, busy: list[Any], order: int, number: int, folds: tuple[int, ...]) -> None:
        ends_s = self.clock.now + self.seconds(number, folds[0])
        heapq.heappush(busy, (ends_s, order, number, folds[0], folds[1:]))


def noisy_seconds(mean_s: float) -> Callable[[int, int], float]:
    return lambda number, k: float(mean_s * rng_for(0, "seconds", number, k).uniform(0.8, 1.2))


def noisy_score(number: int, k: int) -> float:
    quality = rng_for(0, "quality", number).uniform(0.3, 0.9)
    return float(quality + 0.02 * rng_for(0, "score", number, k).normal())


class TestEstimates:
    def test_before_the_first_fold_they_are_of_the_timed_steps(self) -> None:
        assert mean_fold_s(budget_of(), record(0)) == 10
        assert closing_s(budget_of(), history_of()) == 2 * 15 + CLOSING_S  # four retrainings, two at once

    def test_the_retraining_is_that_of_the_best_trial(self) -> None:
        slow = record(0, [0.9, 0.9, 0.9])
        slow.folds = [fold(k, 0.9, 40.0) for k in (1, 2, 3)]
        assert closing_s(budget_of(), history_of(slow, record(1, [0.5, 0.5, 0.5]))) == 2 * 60 + CLOSING_S

    def test_new_workers_start_before_trials_and_before_the_retraining(self) -> None:
        budget = budget_of(startup_s=5)
        assert closing_s(budget, history_of()) == 5 + 2 * 15 + CLOSING_S
        assert budget.forecast(0).needed_s == 5 + 2 * 10 + 5 + 2 * 15 + CLOSING_S  # three folds on two places

    def test_without_a_retraining_the_report_is_left(self) -> None:
        assert closing_s(budget_of(num_retrainings=0), history_of()) == CLOSING_S

    @pytest.mark.parametrize(
        ("left_s", "seeds"),
        [(20, 2), (5 + CLOSING_S + 29, 2), (5 + CLOSING_S + 31, 4), (5 + CLOSING_S + 46, 5), (599, 5), (-30, 2)],
    )
    def test_time_that_trials_left_is_for_retrainings_that_were_left_out(self, left_s: float, seeds: int) -> None:
        """Two rounds of two take 30 s, three 45 s; five were asked for, of which two were planned."""
        budget = budget_of(num_retrainings=2, startup_s=5)
        assert seeds_in_time(budget, history_of(), planned=2, asked=5, now_s=600 - left_s) == seeds

    def test_a_trial_is_expected_to_take_what_those_that_went_as_far_did(self) -> None:
        lengths: Counter[float] = Counter([3, 1, 1, 2, 3])
        assert expected_folds(0, lengths, 3) == 2
        assert expected_folds(1, lengths, 3) == pytest.approx(5 / 3)
        assert expected_folds(2, lengths, 3) == 1
        assert expected_folds(0, {}, 3) == 3
        assert expected_folds(2, {1: 1, 2: 1}, 3) == 1


class TestDecisions:
    def test_a_trial_starts_as_long_as_it_and_the_retraining_fit(self) -> None:
        history = history_of(record(0, [0.5, 0.5, 0.5]))  # folds of a second
        latest_s = 600 - 3 - (2 * 1.5 + CLOSING_S)
        assert too_late_for_trial(budget_of(), history, latest_s) is None
        reason = too_late_for_trial(budget_of(), history, latest_s + 1)
        assert reason == "search.minutes = 10 is spent: about 0:13 of it is for retraining and report"

    def test_where_racing_stops_trials_one_starts_later(self) -> None:
        trials = [record(0, [0.5, 0.5, 0.5]), *(record(n, [0.5], "pruned") for n in (1, 2, 3))]
        latest_s = 600 - 1.5 - (2 * 1.5 + CLOSING_S)
        assert too_late_for_trial(budget_of(), history_of(*trials), latest_s) is None
        assert too_late_for_trial(budget_of(), history_of(*trials), latest_s + 1) is not None

    def test_one_trial_is_completed_whatever_it_takes(self) -> None:
        first, second = record(0, [0.5], "running"), record(1, [0.5], "running")
        history = history_of(first, second)
        assert fits_rest_of(first, budget_of(), history, now_s=10_000)
        assert not fits_rest_of(second, budget_of(), history, now_s=10_000)
        assert not fits_rest_of(second, budget_of(), history_of(record(0, [0.5] * 3), second), now_s=10_000)

    def test_a_search_whose_trials_all_fail_ends_with_its_budget(self) -> None:
        history = history_of(record(0, [], "failed"))
        assert too_late_for_trial(budget_of(), history, 599) is None
        assert too_late_for_trial(budget_of(), history, 601) is not None

    def test_the_time_of_a_running_trial_is_its_own(self) -> None:
        slow = record(1, [0.5], "running")
        slow.folds = [fold(1, 0.5, 100.0)]
        history = history_of(record(0, [0.5, 0.5, 0.5]), slow)
        left_s = 2 * 100 + 2 * 1.5 + CLOSING_S
        assert fits_rest_of(slow, budget_of(), history, now_s=600 - left_s)
        assert not fits_rest_of(slow, budget_of(), history, now_s=601 - left_s)


@pytest.mark.parametrize("places", [1, 2, 5])
@pytest.mark.parametrize("num_folds", [3, 9])
@pytest.mark.parametrize("racing", [{"rule": "folds"}, {"rule": "none"}])
def test_a_search_ends_at_its_minutes(journal: SearchJournal, places: int, num_folds: int, racing: Any) -> None:
    budget = budget_of(places=places, num_folds=num_folds, limit_s=3600, fold_s=30, retraining_s=45)
    simulation = Simulation(journal, budget, noisy_seconds(30), noisy_score, search__racing=racing)
    ends_s = simulation.run()
    assert 0.85 * 3600 <= ends_s <= 1.05 * 3600
    assert sum(trial.state == "running" for trial in simulation.trials) <= places


def test_folds_in_parallel_keep_to_the_minutes(journal: SearchJournal) -> None:
    budget = budget_of(places=4, num_folds=4, limit_s=1200)
    ends_s = Simulation(journal, budget, noisy_seconds(20), noisy_score, search__folds_in_parallel=True).run()
    assert 0.85 * 1200 <= ends_s <= 1.05 * 1200


def test_a_first_trial_that_takes_long_does_not_end_it_early(journal: SearchJournal) -> None:
    def seconds(number: int, k: int) -> float:
        return 60.0 if number == 0 else 10.0

    ends_s = Simulation(journal, budget_of(places=1), seconds, lambda number, k: 0.5 + 0.001 * number).run()
    assert 0.85 * 600 <= ends_s <= 1.05 * 600


def test_timed_steps_that_were_too_quick_are_corrected_by_the_folds(journal: SearchJournal) -> None:
    budget = budget_of(places=2, limit_s=1800, fold_s=5.0, retraining_s=7.5)
    assert 0.85 * 1800 <= Simulation(journal, budget, noisy_seconds(20), noisy_score).run() <= 1.05 * 1800


def test_trials_remain_an_upper_limit(journal: SearchJournal) -> None:
    simulation = Simulation(journal, budget_of(), noisy_seconds(1), noisy_score, search__trials=4)
    simulation.run()
    assert [trial.number for trial in simulation.trials] == [0, 1, 2, 3]
    assert simulation.scheduler.ending == "all 4 trials have ended"


def test_a_trial_without_time_for_its_rest_stays_open_and_a_resume_has_the_whole_budget(journal: SearchJournal) -> None:
    budget, clock = budget_of(places=1), Clock()
    space = space_of(search__folds=3, search__trials=None, search__minutes=10)
    scheduler = TrialScheduler(space, journal, clock, time_budget=budget)
    first = next_of(scheduler)
    for k in first.folds:
        scheduler.fold_finished(0, fold(k, 0.5, 10.0))
    next_of(scheduler)
    clock.now = 570.0
    assert scheduler.fold_finished(1, fold(1, 0.5, 10.0)) is Decision.STOP
    assert scheduler.done
    assert scheduler.ending.startswith("search.minutes = 10 is spent: about 1:10 of it is for")
    assert journal.history.trials[1].state == "running"
    later = budget_of(places=1, started_s=570.0)
    resumed = TrialScheduler(space, open_search_journal(journal.directory), clock, time_budget=later)
    assert (next_of(resumed).number, next_of(resumed).number) == (1, 2)


def test_folds_of_the_only_trial_that_fits_are_trained_beside_each_other(journal: SearchJournal) -> None:
    """A second trial would end after 30 + 15 + 10 s; three folds on two places take 20 s, and the rest 25 s."""
    budget = budget_of(limit_s=50.0, num_retrainings=2)
    simulation = Simulation(journal, budget, lambda number, k: 10.0, noisy_score)
    assert simulation.run() == 45.0
    assert [trial.state for trial in simulation.trials] == ["complete"]


def test_a_cluster_that_has_grown_has_time_for_more_trials(journal: SearchJournal) -> None:
    """Four retrainings of 15 s take 60 s on one place, 15 s on four: so 30 s are left for a trial at 540 of 600 s."""
    space = space_of(search__folds=3, search__trials=None, search__minutes=10)
    clock = Clock()
    scheduler = TrialScheduler(space, journal, clock, time_budget=budget_of(places=1))
    first = next_of(scheduler)
    for k in first.folds:
        scheduler.fold_finished(0, fold(k, 0.5, 10.0))
    clock.now = 540.0
    assert scheduler.next_assignment(places=1) is None
    assert scheduler.next_assignment(places=4) is not None


def test_a_cluster_that_has_lost_all_nodes_has_trials_that_wait_for_one(journal: SearchJournal) -> None:
    space = space_of(search__folds=3, search__trials=None, search__minutes=10)
    scheduler = TrialScheduler(space, journal, Clock(), time_budget=budget_of(places=4))
    assert scheduler.next_assignment(places=0) is not None


class TestForecast:
    def test_says_what_fits_and_how_long_it_takes(self) -> None:
        forecast = budget_of(limit_s=1800, fold_s=21, retraining_s=31, num_retrainings=5).forecast(passed_s=10)
        # (1800 - 10 - 3 * 31 - 10) s on two places, of trials of 63 s
        assert str(forecast) == "30 minutes: about 52 trials of 3 folds (21 s a fold) and 5 retrainings (31 s each)"
        forecast.check()

    def test_baselines_come_first_and_trials_are_a_limit(self) -> None:
        budget = budget_of(num_baseline_folds=4)
        assert budget_of().forecast(0).num_trials == 2 * ((600 - 30 - 10) // 30)
        assert budget.forecast(0).num_trials == 2 * ((600 - 2 * 10 - 30 - 10) // 30)
        assert budget_of(max_trials=7).forecast(0).num_trials == 7

    def test_too_few_minutes_are_bad_input_with_what_is_needed(self) -> None:
        budget = budget_of(limit_s=60, num_baseline_folds=3)
        with pytest.raises(BadInput) as caught:
            budget.forecast(passed_s=5).check()
        # 5 + 2 * 10 of the baseline, 2 * 10 of a trial, 2 * 15 of the retraining, 10 of the end: 85 s
        assert str(caught.value.problems[0]) == (
            "search.minutes: expected at least 1.5 minutes for the baselines, 1 trial of 3 folds (10 s a fold) "
            "and 4 retrainings (15 s each), got 1"
        )

    def test_is_made_of_a_plan_and_its_timed_steps(self) -> None:
        changes = {"search__minutes": 5, "search__trials": None, "search__repeats": 2, "retrain__seeds": 3}
        plan = check_experiment(space_of(**changes, search__baselines=["linear_probe", "fine_tuning"]))
        times = StepTimes(setup_s=1.0, step_s=0.5, example_s=0.1)
        budget = TimeBudget.of(plan, times, places=2, started_s=7.0)
        assert (budget.limit_s, budget.num_folds, budget.max_trials) == (300, 4, None)
        assert (budget.num_retrainings, budget.num_baseline_folds) == (6, 4)
        assert budget.features_s == pytest.approx(30 * 0.1)
        assert budget.forecast(0).needed_s == budget.whole_s(1)
        assert budget.fold_s == pytest.approx(1 + 2 * 0.5 + 15 * 0.1)  # two steps, 15 of 30 examples
        assert budget.retraining_s == pytest.approx(1 + 2 * 0.5 + 20 * 0.1)


@pytest.mark.parametrize(("num_trials", "trials_s"), [(4, 60), (5, 90), (1, 20)])
def test_a_whole_command_is_the_sum_of_its_rounds(num_trials: int, trials_s: float) -> None:
    """On two places; folds of one trial are trained beside each other."""
    budget = budget_of(num_baseline_folds=3, startup_s=5.0)
    baselines_s, retraining_s = 20.0, 30.0
    starts_s = 5.0 + 5.0
    expected_s = 7.0 + baselines_s + trials_s + retraining_s + starts_s + CLOSING_S
    assert budget.whole_s(num_trials, passed_s=7.0) == pytest.approx(expected_s)
