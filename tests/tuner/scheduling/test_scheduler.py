from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import events_in, fold, search_journal, space_of
from tuner.record.events import FoldFinished, ShareMeasured
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.scheduling.scheduler import MAX_LOST_WORKERS, Assignment, Decision, TrialScheduler


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SearchJournal]:
    journal = search_journal(tmp_path)
    yield journal
    journal.close()


def conductor_of(journal: SearchJournal, **changes: Any) -> TrialScheduler:
    return TrialScheduler(space_of(search__trials=2, **changes), journal)


def resumed(journal: SearchJournal, **changes: Any) -> TrialScheduler:
    return conductor_of(open_search_journal(journal.directory), **changes)


def next_of(scheduler: TrialScheduler, places: int = 1) -> Assignment:
    assignment = scheduler.next_assignment(places)
    assert assignment is not None
    return assignment


def test_hands_out_as_many_trials_as_asked_and_is_done_when_all_have_ended(journal: SearchJournal) -> None:
    scheduler = conductor_of(journal)
    assert [next_of(scheduler).number for _ in range(2)] == [0, 1]
    assert scheduler.next_assignment() is None
    assert not scheduler.done  # they are at work
    for number in (0, 1):
        assert not scheduler.done
        scheduler.fold_finished(number, fold(1, 0.5))
        scheduler.fold_finished(number, fold(2, 0.7))
    assert scheduler.done
    assert [trial.val_top1 for trial in journal.history.trials.values()] == pytest.approx([0.6, 0.6])


def test_a_trial_is_in_the_journal_before_it_is_handed_out(journal: SearchJournal) -> None:
    heard: list[str] = []
    journal.listeners.append(lambda event, history: heard.append(event.event))
    assignment = next_of(conductor_of(journal))
    assert heard == ["trial_started"]
    record = journal.history.trials[0]
    assert assignment == Assignment(0, space_of().trial_config(record.params), num_folds=2, folds=(1, 2))


def test_without_dimensions_there_is_one_trial(journal: SearchJournal) -> None:
    scheduler = conductor_of(journal, method__gamma_fe=0.02, method__alpha=0.2)
    assert next_of(scheduler).config.method.alpha == 0.2
    assert scheduler.next_assignment() is None


def test_a_failed_trial_is_not_repeated(journal: SearchJournal) -> None:
    scheduler = conductor_of(journal)
    next_of(scheduler)
    scheduler.trial_failed(0, 1, "fold 1 diverged")
    assert (journal.history.trials[0].state, journal.history.trials[0].reason) == ("failed", "fold 1 diverged")
    assert next_of(scheduler).number == 1
    scheduler.trial_failed(1, 1, "again")
    assert scheduler.next_assignment() is None
    assert scheduler.done


def test_why_a_trial_failed_is_recorded_without_credentials(
    journal: SearchJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-of-the-store")
    scheduler = conductor_of(journal)
    next_of(scheduler)
    scheduler.trial_failed(0, 1, "fold 1: s3://robot:hunter3@bucket refuses hunter2-of-the-store")
    assert "hunter" not in journal.path.read_text()
    assert journal.history.trials[0].reason.startswith("fold 1: s3://")


def test_a_lost_worker_goes_on_from_its_last_fold_until_it_is_lost_too_often(journal: SearchJournal) -> None:
    scheduler = conductor_of(journal)
    next_of(scheduler)
    scheduler.fold_finished(0, fold(1, 0.5))
    for _ in range(MAX_LOST_WORKERS):
        scheduler.worker_lost(0, 2, "SIGKILL")
        again = next_of(scheduler)
        assert (again.number, again.folds) == (0, (2,))
    scheduler.worker_lost(0, 2, "SIGKILL")
    assert journal.history.trials[0].state == "failed"
    assert journal.history.trials[0].reason == f"its worker died {MAX_LOST_WORKERS + 1} times: SIGKILL"
    assert next_of(scheduler).number == 1


class TestOutOfMemory:
    """A share of a card that was too little grows for all, and its trial goes on without having lost a try."""

    def test_the_share_grows_up_to_a_whole_card_and_then_the_trial_fails(self, journal: SearchJournal) -> None:
        scheduler, gpus = conductor_of(journal), 1 / 10
        scheduler.fold_finished(next_of(scheduler).number, fold(1, 0.5))
        scheduler.out_of_gpu_memory(0, 2, gpus, "CUDA out of memory")
        for larger in (1 / 5, 1 / 2, 1.0):
            assert journal.history.gpus == larger
            assert (next_of(scheduler).number, scheduler.num_assigned) == (0, 1)
            scheduler.out_of_gpu_memory(0, 2, larger, "CUDA out of memory")
        ended = journal.history.trials[0]
        assert (ended.state, ended.reason) == ("failed", "it does not fit on a whole GPU: CUDA out of memory")
        assert next_of(scheduler).number == 1

    def test_goes_on_at_its_first_unfinished_fold(self, journal: SearchJournal) -> None:
        scheduler = conductor_of(journal)
        scheduler.fold_finished(next_of(scheduler).number, fold(1, 0.5))
        scheduler.out_of_gpu_memory(0, 2, 0.25, "CUDA out of memory")
        assert next_of(scheduler).folds == (2,)

    def test_what_another_trial_has_found_out_is_not_found_out_again(self, journal: SearchJournal) -> None:
        scheduler = conductor_of(journal)
        for _ in range(2):
            next_of(scheduler)
        for number in (0, 1):
            scheduler.out_of_gpu_memory(number, 1, 0.25, "CUDA out of memory")
        assert [e["gpus"] for e in events_in(journal.path) if e["event"] == "share_grown"] == [0.5]
        assert [next_of(scheduler).number for _ in range(2)] == [0, 1]

    def test_is_remembered_by_a_search_that_goes_on(self, journal: SearchJournal) -> None:
        scheduler = conductor_of(journal)
        measured = {"step_bytes": 1, "pixels_bytes": 1, "context_bytes": 1, "card_bytes": 100}
        journal.append(ShareMeasured(gpus=0.07, context=0.01, **measured))
        next_of(scheduler)
        scheduler.out_of_gpu_memory(0, 1, 0.25, "CUDA out of memory")
        again = resumed(journal)
        assert again.journal.history.gpus == 0.5
        assert again.journal.history.share_measured == journal.history.share_measured
        assert next_of(again).number == 0


class TestFoldsInParallel:
    """Where there are places that no trial is left for, they train later folds; nothing is decided before its turn."""

    @pytest.mark.parametrize(
        ("setting", "places", "handed_out"),
        [
            (True, 1, [(0, (1,)), (1, (1,)), (0, (2,)), (1, (2,)), (0, (3,)), (1, (3,))]),
            ("auto", 3, [(0, (1,)), (1, (1,)), (0, (2,)), (1, (2,)), (0, (3,)), (1, (3,))]),
            ("auto", 2, [(0, (1, 2, 3)), (1, (1, 2, 3))]),  # as many trials as places: none waits
            (False, 9, [(0, (1, 2, 3)), (1, (1, 2, 3))]),
        ],
    )
    def test_first_folds_come_first(
        self, journal: SearchJournal, setting: Any, places: int, handed_out: list[tuple[int, tuple[int, ...]]]
    ) -> None:
        scheduler = conductor_of(journal, search__folds=3, search__folds_in_parallel=setting)
        taken = [scheduler.next_assignment(places) for _ in range(7)]
        assert [(a.number, a.folds) for a in taken if a is not None] == handed_out
        assert scheduler.num_assigned == len(handed_out)

    @pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
    def test_in_whatever_order_they_end_it_is_told_as_if_one_followed_the_other(
        self, journal: SearchJournal, order: tuple[int, ...]
    ) -> None:
        scheduler = in_parallel(journal, search__trials=1)
        for k in order:
            scheduler.fold_finished(0, fold(k, k / 10))
        trial = journal.history.trials[0]
        assert [result.fold for result in trial.folds] == [1, 2, 3]
        assert (trial.state, trial.val_top1, trial.num_trained) == ("complete", pytest.approx(0.2), 3)
        assert scheduler.done
        again = open_search_journal(journal.directory).history.trials[0]
        assert (again, again.ahead) == (trial, {})

    def test_the_same_trials_win_and_are_stopped_as_one_after_the_other(self, tmp_path: Path) -> None:
        decisions = []
        for setting in (False, True):
            racing = {"search__racing": {"rule": "folds", "min_complete": 2}, "search__folds_in_parallel": setting}
            space = space_of(search__trials=6, search__folds=3, search__sampler="random", **racing)
            with closing(search_journal(tmp_path / str(setting))) as journal:
                scheduler = TrialScheduler(space, journal)
                for assignment in reversed(list(iter(scheduler.next_assignment, None))):  # the latest ends first
                    train(scheduler, assignment)
                assert scheduler.done
                decisions.append([(t.state, t.fold_scores, t.reason) for t in journal.history.trials.values()])
        assert decisions[0] == decisions[1]
        assert {state for state, *_ in decisions[0]} == {"complete", "pruned"}

    def test_what_racing_stops_has_trained_the_rest_for_nothing(self, journal: SearchJournal) -> None:
        scheduler = in_parallel(journal, search__trials=1)
        scheduler.fold_finished(0, fold(3, 0.9))
        scheduler.trial_failed(0, 1, "fold 1 diverged")
        trial = journal.history.trials[0]
        assert (trial.state, trial.folds, trial.ahead, trial.discarded) == ("failed", [], {}, (2, 3))
        assert trial.num_trained == 2
        assert not scheduler.done  # a worker is at fold 2
        assert scheduler.fold_finished(0, fold(2, 0.9)) is Decision.STOP
        assert scheduler.done
        assert journal.history.trials[0] == open_search_journal(journal.directory).history.trials[0]

    def test_a_worker_that_dies_after_its_trials_end_changes_nothing(self, journal: SearchJournal) -> None:
        scheduler = in_parallel(journal, search__trials=1)
        scheduler.trial_failed(0, 1, "diverged")
        for k in (2, 3):
            scheduler.worker_lost(0, k, "SIGKILL")
        assert journal.history.trials[0].reason == "diverged"
        assert scheduler.done

    def test_a_fold_whose_worker_died_is_trained_again_and_no_other(self, journal: SearchJournal) -> None:
        scheduler = in_parallel(journal, search__trials=1)
        scheduler.worker_lost(0, 2, "SIGKILL")
        assert next_of(scheduler, 3).folds == (2,)
        assert scheduler.next_assignment(3) is None

    def test_one_that_goes_on_trains_what_nobody_has_trained(self, journal: SearchJournal) -> None:
        first = in_parallel(journal, search__trials=1)
        first.fold_finished(0, fold(2, 0.5))
        alone = {"search__trials": 1, "search__folds": 3, "search__folds_in_parallel": False}
        second = TrialScheduler(space_of(**alone), open_search_journal(journal.directory))
        assert [next_of(second).folds, second.next_assignment()] == [(1, 3), None]
        for k in (1, 3):
            second.fold_finished(0, fold(k, 0.5))
        assert second.journal.history.trials[0].state == "complete"
        assert second.done


def in_parallel(journal: SearchJournal, **changes: Any) -> TrialScheduler:
    """One whose trials' folds are all at work."""
    changes = {"search__folds": 3, "search__folds_in_parallel": True} | changes
    scheduler = TrialScheduler(space_of(**changes), journal)
    while scheduler.next_assignment(9) is not None:
        pass
    return scheduler


class TestResuming:
    def test_takes_up_the_first_unfinished_fold_before_anything_new(self, journal: SearchJournal) -> None:
        first = conductor_of(journal)
        assignments = [next_of(first), next_of(first)]
        first.fold_finished(0, fold(1, 0.5))
        second = resumed(journal)
        again = [next_of(second), next_of(second)]
        assert [(a.number, a.folds) for a in again] == [(0, (2,)), (1, (1, 2))]
        assert [a.config for a in again] == [a.config for a in assignments]
        assert second.next_assignment() is None

    def test_goes_on_with_more_trials_if_asked(self, journal: SearchJournal) -> None:
        first = conductor_of(journal)
        for number in range(2):
            next_of(first)
            first.trial_failed(number, 1, "diverged")
        second = TrialScheduler(space_of(search__trials=3), open_search_journal(journal.directory))
        assert not second.done
        assert next_of(second).number == 2

    def test_a_trial_that_only_lacked_its_last_line_is_complete(self, journal: SearchJournal) -> None:
        first = conductor_of(journal)
        next_of(first)
        for k in (1, 2):  # as if cut off before `trial_ended`
            journal.append(FoldFinished(trial=0, result=fold(k, 0.5)))
        second = resumed(journal)
        assert second.journal.history.trials[0].state == "complete"
        assert next_of(second).number == 1

    @pytest.mark.parametrize("num_lines", range(2, 10))
    def test_cut_off_at_any_line_it_trains_every_fold_once(self, journal: SearchJournal, num_lines: int) -> None:
        whole = run_to_end(conductor_of(journal))
        lines = journal.path.read_text().splitlines(keepends=True)
        journal.path.write_text("".join(lines[:num_lines]))
        second = resumed(journal)
        assert run_to_end(second) == whole
        folds = [(t.number, f.fold) for t in second.journal.history.trials.values() for f in t.folds]
        assert folds == [(0, 1), (0, 2), (1, 1), (1, 2)]


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


def test_a_rung_that_was_passed_is_not_asked_for_again(journal: SearchJournal) -> None:
    asha: dict[str, Any] = {"search__racing": {"rule": "asha"}, "training__num_steps": 90}
    scheduler = conductor_of(journal, **asha)
    assert next_of(scheduler).rungs == (10, 30)
    assert scheduler.rung_reached(0, 1, 10, 0.5) is Decision.CONTINUE
    assert next_of(resumed(journal, **asha)).rungs == (30,)
    scheduler.fold_finished(0, fold(1, 0.5))
    assert next_of(resumed(journal, **asha)).rungs == ()


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
        later = TrialScheduler(
            space_of(search__timeout_s=60, search__trials=3), open_search_journal(journal.directory), clock
        )
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
        scheduler = conductor_of(journal, search__max_fold_trainings=3)
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


def test_a_combination_that_cannot_be_ends_its_trial_and_no_other(
    journal: SearchJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = conductor_of(journal)
    first = scheduler.sampler.propose
    proposal, params = first(), {"method.gamma_fe": -1.0, "method.alpha": 0.5}
    unchecked = scheduler.sampler._checked(proposal.number, params, proposal.source, proposal.attrs)
    monkeypatch.setattr(scheduler.sampler, "propose", iter([unchecked, first()]).__next__)
    assert next_of(scheduler).number == 1
    refused = journal.history.trials[0]
    assert refused.state == "failed"
    assert "method.gamma_fe: expected" in refused.reason
