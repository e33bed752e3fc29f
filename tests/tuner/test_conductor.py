from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import fold, space_of
from tuner.conductor import MAX_LOST, Assignment, Conductor
from tuner.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def conductor_of(journal: Journal, **changes: Any) -> Conductor:
    return Conductor(space_of(search__trials=2, **changes), journal)


def resumed(journal: Journal, **changes: Any) -> Conductor:
    return conductor_of(Journal(journal.directory), **changes)


def next_of(conductor: Conductor) -> Assignment:
    assignment = conductor.next_assignment()
    assert assignment is not None
    return assignment


def test_hands_out_as_many_trials_as_asked_and_is_done_when_all_have_ended(journal: Journal) -> None:
    conductor = conductor_of(journal)
    assert [next_of(conductor).number for _ in range(2)] == [0, 1]
    assert conductor.next_assignment() is None
    assert not conductor.done  # they are at work
    for number in (0, 1):
        assert not conductor.done
        conductor.fold_finished(number, fold(1, 0.5))
        conductor.fold_finished(number, fold(2, 0.7))
    assert conductor.done
    assert [trial.val_top1 for trial in journal.history.trials.values()] == pytest.approx([0.6, 0.6])


def test_a_trial_is_in_the_journal_before_it_is_handed_out(journal: Journal) -> None:
    heard: list[str] = []
    journal.listeners.append(lambda event, history: heard.append(event["event"]))
    assignment = next_of(conductor_of(journal))
    assert heard == ["trial_started"]
    record = journal.history.trials[0]
    assert assignment == Assignment(0, space_of().trial_config(record.params), num_folds=2, first_fold=1)


def test_without_dimensions_there_is_one_trial(journal: Journal) -> None:
    conductor = conductor_of(journal, method__gamma_fe=0.02, method__alpha=0.2)
    assert next_of(conductor).config.method.alpha == 0.2
    assert conductor.next_assignment() is None


def test_a_failed_trial_is_not_repeated(journal: Journal) -> None:
    conductor = conductor_of(journal)
    next_of(conductor)
    conductor.trial_failed(0, "fold 1 diverged")
    assert (journal.history.trials[0].state, journal.history.trials[0].reason) == ("failed", "fold 1 diverged")
    assert next_of(conductor).number == 1
    conductor.trial_failed(1, "again")
    assert conductor.next_assignment() is None
    assert conductor.done


def test_a_lost_worker_goes_on_from_its_last_fold_until_it_is_lost_too_often(journal: Journal) -> None:
    conductor = conductor_of(journal)
    next_of(conductor)
    conductor.fold_finished(0, fold(1, 0.5))
    for _ in range(MAX_LOST):
        conductor.worker_lost(0, "SIGKILL")
        again = next_of(conductor)
        assert (again.number, again.first_fold) == (0, 2)
    conductor.worker_lost(0, "SIGKILL")
    assert journal.history.trials[0].state == "failed"
    assert journal.history.trials[0].reason == f"its worker died {MAX_LOST + 1} times: SIGKILL"
    assert next_of(conductor).number == 1


def test_a_worker_that_dies_after_its_trials_end_changes_nothing(journal: Journal) -> None:
    conductor = conductor_of(journal)
    next_of(conductor)
    conductor.trial_failed(0, "diverged")
    conductor.worker_lost(0, "SIGKILL")
    assert journal.history.trials[0].reason == "diverged"
    assert next_of(conductor).number == 1


class TestResuming:
    def test_takes_up_the_first_unfinished_fold_before_anything_new(self, journal: Journal) -> None:
        first = conductor_of(journal)
        assignments = [next_of(first), next_of(first)]
        first.fold_finished(0, fold(1, 0.5))
        second = resumed(journal)
        again = [next_of(second), next_of(second)]
        assert [(a.number, a.first_fold) for a in again] == [(0, 2), (1, 1)]
        assert [a.config for a in again] == [a.config for a in assignments]
        assert second.next_assignment() is None

    def test_goes_on_with_more_trials_if_asked(self, journal: Journal) -> None:
        first = conductor_of(journal)
        for number in range(2):
            next_of(first)
            first.trial_failed(number, "diverged")
        second = Conductor(space_of(search__trials=3), Journal(journal.directory))
        assert not second.done
        assert next_of(second).number == 2

    def test_a_trial_that_only_lacked_its_last_line_is_complete(self, journal: Journal) -> None:
        first = conductor_of(journal)
        next_of(first)
        for k in (1, 2):  # as if cut off before `trial_finished`
            journal.append("fold_finished", trial=0, result=fold(k, 0.5))
        second = resumed(journal)
        assert second.journal.history.trials[0].state == "complete"
        assert next_of(second).number == 1

    @pytest.mark.parametrize("num_lines", range(1, 9))
    def test_cut_off_at_any_line_it_trains_every_fold_once(self, journal: Journal, num_lines: int) -> None:
        whole = run_to_end(conductor_of(journal))
        lines = journal.path.read_text().splitlines(keepends=True)
        journal.path.write_text("".join(lines[:num_lines]))
        second = resumed(journal)
        assert run_to_end(second) == whole
        folds = [(t.number, f["fold"]) for t in second.journal.history.trials.values() for f in t.folds]
        assert folds == [(0, 1), (0, 2), (1, 1), (1, 2)]


def run_to_end(conductor: Conductor) -> dict[int, dict[str, Any]]:
    """One trial after the other; the parameters of each."""
    while (assignment := conductor.next_assignment()) is not None:
        for k in range(assignment.first_fold, assignment.num_folds + 1):
            conductor.fold_finished(assignment.number, fold(k, assignment.config.method.alpha))
    assert conductor.done
    return {trial.number: trial.params for trial in conductor.journal.history.trials.values()}


def test_a_combination_that_cannot_be_ends_its_trial_and_no_other(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    conductor = conductor_of(journal)
    first = conductor.proposer.propose
    unchecked = dataclasses.replace(first(), params={"gamma_fe": -1.0, "alpha": 0.5})
    monkeypatch.setattr(conductor.proposer, "propose", iter([unchecked, first()]).__next__)
    assert next_of(conductor).number == 1
    refused = journal.history.trials[0]
    assert refused.state == "failed"
    assert "method.gamma_fe: input should be greater than or equal to 0" in refused.reason
