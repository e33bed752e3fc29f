from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.scheduling.workers import next_of, resumed, run_to_end, scheduler_of, train
from tests.tuner.tiny import events_in, fold, search_journal, space_of
from tuner.record.events import FoldFinished, ShareMeasured
from tuner.record.history import SearchHistory
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.resources.node_losses import HOUR_S, MAX_LOSSES_PER_HOUR
from tuner.scheduling.assignment import Assignment
from tuner.scheduling.scheduler import MAX_LOST_WORKERS, Decision, TrialScheduler


def test_hands_out_as_many_trials_as_asked_and_is_done_when_all_have_ended(journal: SearchJournal) -> None:
    scheduler = scheduler_of(journal)
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
    assignment = next_of(scheduler_of(journal))
    assert heard == ["trial_started"]
    record = journal.history.trials[0]
    assert assignment == Assignment(0, space_of().trial_config(record.params), num_folds=2, folds=(1, 2))


def test_without_dimensions_there_is_one_trial(journal: SearchJournal) -> None:
    scheduler = scheduler_of(journal, method__gamma_fe=0.02, method__alpha=0.2)
    assert next_of(scheduler).config.method.alpha == 0.2
    assert scheduler.next_assignment() is None


def test_a_failed_trial_is_not_repeated(journal: SearchJournal) -> None:
    scheduler = scheduler_of(journal)
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
    scheduler = scheduler_of(journal)
    next_of(scheduler)
    scheduler.trial_failed(0, 1, "fold 1: s3://robot:hunter3@bucket refuses hunter2-of-the-store")
    assert "hunter" not in journal.path.read_text()
    assert journal.history.trials[0].reason.startswith("fold 1: s3://")


def test_a_lost_worker_goes_on_from_its_last_fold_until_it_is_lost_too_often(journal: SearchJournal) -> None:
    scheduler = scheduler_of(journal)
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


def test_a_lost_node_is_no_death_of_a_worker(journal: SearchJournal) -> None:
    now_s = 0.0
    scheduler = TrialScheduler(space_of(search__trials=2), journal, clock=lambda: now_s)
    for _ in range(2):
        for _ in range(MAX_LOSSES_PER_HOUR):
            again = next_of(scheduler)
            assert (again.number, again.folds) == (0, (1, 2))
            scheduler.node_lost(0, 1, "its node was lost")
        now_s += HOUR_S
    for _ in range(MAX_LOST_WORKERS):
        next_of(scheduler)
        scheduler.worker_lost(0, 1, "SIGKILL")
    assert journal.history.trials[0].state == "running"


def test_what_lies_ahead_is_counted_from_what_has_ended(journal: SearchJournal) -> None:
    """Folds that end out of order leave neither a gap nor a fold that is given twice."""
    scheduler = scheduler_of(journal, search__folds=4, search__folds_in_parallel=True)
    given = [next_of(scheduler, 9) for _ in range(8)]
    assert scheduler.next_assignment(9) is None
    for k in (4, 2, 3):
        scheduler.fold_finished(0, fold(k, 0.5))
    scheduler.worker_lost(0, 1, "SIGKILL")
    assert next_of(scheduler, 9).folds == (1,)
    scheduler.fold_finished(0, fold(1, 0.5))
    assert journal.history.trials[0].state == "complete"
    assert scheduler.num_assigned == sum(assignment.number == 1 for assignment in given)


def test_a_fold_ahead_is_recorded_with_its_curves_once_it_is_next(journal: SearchJournal) -> None:
    scheduler = scheduler_of(journal, search__folds_in_parallel=True)
    for _ in range(4):
        next_of(scheduler, 9)
    ahead = replace(fold(2, 0.5), loss_steps=[1], loss_terms={"target_label": [0.7]})
    scheduler.fold_finished(0, ahead)
    scheduler.fold_finished(0, fold(1, 0.5))
    assert SearchHistory.read(journal.path).trials[0].folds[1] == ahead
    assert journal.history.trials[0].folds[1] == fold(2, 0.5)


class TestOutOfMemory:
    """A share of a card that was too little grows for all, and its trial goes on without having lost a try."""

    def test_the_share_grows_up_to_a_whole_card_and_then_the_trial_fails(self, journal: SearchJournal) -> None:
        scheduler, gpus = scheduler_of(journal), 1 / 10
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
        scheduler = scheduler_of(journal)
        scheduler.fold_finished(next_of(scheduler).number, fold(1, 0.5))
        scheduler.out_of_gpu_memory(0, 2, 0.25, "CUDA out of memory")
        assert next_of(scheduler).folds == (2,)

    def test_what_another_trial_has_found_out_is_not_found_out_again(self, journal: SearchJournal) -> None:
        scheduler = scheduler_of(journal)
        for _ in range(2):
            next_of(scheduler)
        for number in (0, 1):
            scheduler.out_of_gpu_memory(number, 1, 0.25, "CUDA out of memory")
        assert [e["gpus"] for e in events_in(journal.path) if e["event"] == "share_grown"] == [0.5]
        assert [next_of(scheduler).number for _ in range(2)] == [0, 1]

    def test_is_remembered_by_a_search_that_goes_on(self, journal: SearchJournal) -> None:
        scheduler = scheduler_of(journal)
        measured = {"step_bytes": 1, "pixels_bytes": 1, "context_bytes": 1, "card_bytes": 100}
        journal.append(ShareMeasured(gpus=0.07, context=0.01, **measured))
        next_of(scheduler)
        scheduler.out_of_gpu_memory(0, 1, 0.25, "CUDA out of memory")
        again = resumed(journal)
        assert again.journal.history.gpus == 0.5
        assert again.journal.history.shares_measured == journal.history.shares_measured
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
        scheduler = scheduler_of(journal, search__folds=3, search__folds_in_parallel=setting)
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
        first = scheduler_of(journal)
        assignments = [next_of(first), next_of(first)]
        first.fold_finished(0, fold(1, 0.5))
        second = resumed(journal)
        again = [next_of(second), next_of(second)]
        assert [(a.number, a.folds) for a in again] == [(0, (2,)), (1, (1, 2))]
        assert [a.config for a in again] == [a.config for a in assignments]
        assert second.next_assignment() is None

    def test_goes_on_with_more_trials_if_asked(self, journal: SearchJournal) -> None:
        first = scheduler_of(journal)
        for number in range(2):
            next_of(first)
            first.trial_failed(number, 1, "diverged")
        second = TrialScheduler(space_of(search__trials=3), open_search_journal(journal.directory))
        assert not second.done
        assert next_of(second).number == 2

    def test_a_trial_that_only_lacked_its_last_line_is_complete(self, journal: SearchJournal) -> None:
        first = scheduler_of(journal)
        next_of(first)
        for k in (1, 2):  # as if cut off before `trial_ended`
            journal.append(FoldFinished(trial=0, result=fold(k, 0.5)))
        second = resumed(journal)
        assert second.journal.history.trials[0].state == "complete"
        assert next_of(second).number == 1

    @pytest.mark.parametrize("num_lines", range(2, 10))
    def test_cut_off_at_any_line_it_trains_every_fold_once(self, journal: SearchJournal, num_lines: int) -> None:
        whole = run_to_end(scheduler_of(journal))
        lines = journal.path.read_text().splitlines(keepends=True)
        journal.path.write_text("".join(lines[:num_lines]))
        second = resumed(journal)
        assert run_to_end(second) == whole
        folds = [(t.number, f.fold) for t in second.journal.history.trials.values() for f in t.folds]
        assert folds == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_a_combination_that_cannot_be_ends_its_trial_and_no_other(
    journal: SearchJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = scheduler_of(journal)
    first = scheduler.sampler.propose
    proposal, params = first(), {"method.gamma_fe": -1.0, "method.alpha": 0.5}
    unchecked = scheduler.sampler._checked(proposal.number, params, proposal.source, proposal.attrs)
    monkeypatch.setattr(scheduler.sampler, "propose", iter([unchecked, first()]).__next__)
    assert next_of(scheduler).number == 1
    refused = journal.history.trials[0]
    assert refused.state == "failed"
    assert "method.gamma_fe: expected" in refused.reason
