"""Totals that follow the events are those of all trials."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from tests.tuner.tiny import add_trial, fold, record, search_journal
from tuner.record.events import FoldFinished, RungReached, TrialStarted
from tuner.record.history import SearchHistory
from tuner.record.scores import RungScore
from tuner.record.selection import ranked
from tuner.record.trial_totals import TrialTotals


def seen_by(history: SearchHistory) -> list[object]:
    totals = history.totals
    means = [list(totals.means_over(k)) for k in (1, 2)]
    lengths = {length: count for length, count in totals.lengths.items() if count}
    counts = {state: count for state, count in totals.counts.items() if count}
    numbers = [trial.number for trial in totals.ranked]
    return [counts, list(totals.running), numbers, totals.mean_fold_s, totals.num_trained, lengths, means]


@pytest.fixture
def history(tmp_path: Path) -> SearchHistory:
    journal = search_journal(tmp_path)
    for number, (scores, state) in enumerate(
        [([0.5, 0.7], "complete"), ([0.4], "pruned"), ([0.9, 0.9], "complete"), ([], "failed"), ([0.3], "running")]
    ):
        add_trial(journal, number, scores, state)
    add_trial(journal, 5, [0.9, 0.9])
    journal.append(TrialStarted(trial=6, params={}, source="sampler"))
    for number, (share, score) in enumerate([(0.5, 0.4), (0.5, 0.2), (0.25, 0.1)]):
        rung = RungScore(fold=1, step=number, share=share, val_top1=score)
        journal.append(RungReached(trial=6, rung=rung))
    return journal.history


def test_they_are_those_of_the_trials_one_by_one(history: SearchHistory) -> None:
    trials = history.trials.values()
    anew = SearchHistory(trials=history.trials)
    assert seen_by(history) == seen_by(anew)
    assert history.totals.ranked == ranked(trials)
    assert [trial.number for trial in history.totals.ranked] == [2, 5, 0]
    assert history.totals.mean_fold_s == fmean(fold.duration_s for trial in trials for fold in trial.folds)
    assert history.totals.num_trained == sum(trial.num_trained for trial in trials if trial.state != "running")
    assert {state: history.count(state) for state in ("running", "complete", "pruned", "failed")} == {
        "running": 2,
        "complete": 3,
        "pruned": 1,
        "failed": 1,
    }


def test_scores_are_sorted(history: SearchHistory) -> None:
    assert list(history.totals.means_over(1)) == [0.5, 0.9, 0.9]
    assert history.totals.means_over(3) == ()
    assert list(history.totals.scores_at_rung(0.5)) == [0.2, 0.4]
    assert history.totals.scores_at_rung(0.125) == ()


def test_of_no_trial_there_is_no_best(tmp_path: Path) -> None:
    totals = TrialTotals()
    assert (totals.best, totals.mean_fold_s, totals.counts["running"]) == (None, None, 0)


def test_an_end_counts_once() -> None:
    trial = record(0, [0.5])
    totals = TrialTotals([trial])
    totals.end(trial)
    assert (totals.counts["complete"], len(totals.ranked)) == (1, 1)


def test_a_search_needs_no_curves_of_its_folds(tmp_path: Path) -> None:
    journal = search_journal(tmp_path)
    journal.append(TrialStarted(trial=0, params={}, source="sampler"))
    result = fold(1, 0.5)
    with_curves = result.__class__(1, 0.5, 1.0, loss_steps=[1, 2], loss_terms={"target_label": [0.7, 0.6]})
    journal.append(FoldFinished(trial=0, result=with_curves))
    assert journal.history.trials[0].folds == [result]
    assert SearchHistory.read(journal.path).trials[0].folds == [with_curves]
