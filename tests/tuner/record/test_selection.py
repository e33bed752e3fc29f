"""Validation chooses, and nothing else can."""

from __future__ import annotations

import ast
import inspect
import random
from pathlib import Path

import pytest

from tests.tuner.tiny import add_trial, baseline_of, record, search_journal
from trainables.results import FoldResult, RetrainResult
from tuner.experiment.objective import Objective
from tuner.record import selection
from tuner.record.events import RetrainingFinished
from tuner.record.journal import open_search_journal
from tuner.record.selection import best_trial, mean_and_sd, winner_of


def test_the_highest_mean_wins() -> None:
    best = best_trial([record(0, [0.9, 0.1]), record(1, [0.6, 0.6]), record(2, [0.5, 0.6])])
    assert best is not None
    assert best.number == 1


def test_of_equals_the_earliest_wins_in_whatever_order_they_come() -> None:
    trials = [record(number, [0.5, 0.5]) for number in range(4)]
    for seed in range(5):
        random.Random(seed).shuffle(trials)
        best = best_trial(trials)
        assert best is not None
        assert best.number == 0


@pytest.mark.parametrize("state", ["running", "pruned", "failed"])
def test_only_a_complete_trial_can_win(state: str) -> None:
    lucky = record(0, [0.99], state)
    assert best_trial([lucky]) is None
    best = best_trial([lucky, record(1, [0.0, 0.0])])
    assert best is not None
    assert best.number == 1


def test_the_least_loss_wins() -> None:
    trials = [record(number, [0.5, 0.5]) for number in range(3)]
    for trial, losses in zip(trials, ([0.9, 0.7], [0.1, 1.3], [0.5, 1.1]), strict=True):
        trial.objective, trial.folds = Objective("log_loss"), [with_loss(fold) for fold in enumerate(losses, start=1)]
    best = best_trial(trials)
    assert best is not None
    assert (best.number, best.value, best.score) == (1, pytest.approx(0.7), pytest.approx(-0.7))
    probe = baseline_of("linear_probe", 0.5)
    probe.objective, probe.results = Objective("log_loss"), {1: with_loss((1, 0.6))}
    assert winner_of(trials, [probe]) is probe
    probe.results[1] = with_loss((1, 0.8))
    assert winner_of(trials, [probe]) is best


def with_loss(fold: tuple[int, float]) -> FoldResult:
    return FoldResult(fold[0], 0.5, 1.0, metrics={"log_loss": fold[1]})


def test_of_no_trials_there_is_no_best() -> None:
    assert best_trial([]) is None


def test_a_baseline_wins_where_it_is_better_than_every_trial() -> None:
    trials, probe = [record(0, [0.6, 0.6]), record(1, [0.7, 0.5])], baseline_of("linear_probe", 0.6, 0.7)
    assert winner_of(trials, [probe]) is probe
    better = record(2, [0.7, 0.7])
    assert winner_of([*trials, better], [probe]) is better


def test_of_equals_the_trial_wins_and_then_the_earlier_baseline() -> None:
    trial, probe = record(0, [0.5, 0.7]), baseline_of("linear_probe", 0.7, 0.5)
    plain = baseline_of("fine_tuning", 0.6, 0.6)
    assert winner_of([trial], [probe, plain]) is trial
    assert winner_of([], [probe, plain]) is probe


def test_only_a_complete_baseline_can_win() -> None:
    part, failed = baseline_of("fine_tuning", 0.99), baseline_of("linear_probe", 0.99)
    part.num_folds, failed.reason = 2, "diverged"
    trial = record(0, [0.0, 0.1])
    assert winner_of([trial], [part, failed]) is trial
    assert winner_of([], [part, failed]) is None


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_test_scores_are_the_choice_is_the_same(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    scores = [[rng.random(), rng.random()] for _ in range(6)]
    chosen = set()
    for poison in (0.0, 0.5, 1.0):
        journal = search_journal(tmp_path / str(poison))
        for number, folds in enumerate(scores):
            add_trial(journal, number, folds)
            result = RetrainResult(0, abs(poison - number / 10), 1.0, [], {})
            journal.append(RetrainingFinished(trial=number, result=result))
        best = best_trial(open_search_journal(journal.directory).history.trials.values())
        assert best is not None
        chosen.add(best.number)
    assert len(chosen) == 1


def test_a_trial_record_has_no_place_for_a_test_score() -> None:
    assert [name for name in dir(record(0)) if "test" in name] == []


def test_the_module_has_no_way_to_a_test_score() -> None:
    tree = ast.parse(inspect.getsource(selection))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
    assert {name for name in imported if name.startswith(("tuner", "trainables"))} == {
        "tuner.record.baselines.BaselineRecord",
        "tuner.record.history.TrialRecord",
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert used == {"state", "score", "number"}


def test_mean_and_sd() -> None:
    assert mean_and_sd([0.5]) == (0.5, None)
    assert mean_and_sd(iter([0.4, 0.6])) == pytest.approx((0.5, 0.1414), abs=1e-4)
