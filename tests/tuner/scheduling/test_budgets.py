from __future__ import annotations

from typing import Any, ClassVar

from tests.tuner.tiny import baseline_of, history_of, record
from tuner.experiment.settings import Plateau, SearchSettings
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.scores import RungScore
from tuner.scheduling.budgets import PlateauProgress, spent_budget


def ended(*trials: TrialRecord) -> SearchHistory:
    history = history_of(*trials)
    history.ended_trials = [trial.number for trial in trials if trial.state != "running"]
    return history


def scored(*scores: float, state: str = "complete") -> list[TrialRecord]:
    return [record(number, [score, score], state) for number, score in enumerate(scores)]


def why(history: SearchHistory, num_trials: int = 20, elapsed_s: float = 0.0, **settings: Any) -> str | None:
    asked = SearchSettings(folds=2, repeats=1, baselines=(), **settings)
    progress = None if asked.plateau is None else PlateauProgress(asked.plateau)
    if progress is not None:
        progress.update(history)
    return spent_budget(asked, num_trials, history, elapsed_s, progress)


def test_without_a_budget_only_trials_count() -> None:
    assert why(ended(*scored(0.5, 0.5)), num_trials=3, elapsed_s=1e9) is None
    assert why(ended(*scored(0.5, 0.5, 0.5)), num_trials=3) == "all 3 trials have ended"
    assert why(ended(*scored(0.5)), num_trials=1) == "the only trial has ended"


def test_wall_clock() -> None:
    assert why(SearchHistory(), elapsed_s=599.9, timeout_s=600) is None
    assert why(SearchHistory(), elapsed_s=600, timeout_s=600) == "search.timeout_s = 600 is spent"


class TestFoldTrainings:
    def test_a_trial_starts_only_where_all_of_its_folds_are_paid_for(self) -> None:
        assert why(ended(*scored(0.5)), max_fold_trainings=4) is None
        said = why(ended(*scored(0.5)), max_fold_trainings=3)
        assert said == "search.max_fold_trainings = 3 is spent: 2 are trained, and a trial takes up to 2"

    def test_what_runs_is_owed_and_what_was_stopped_makes_room(self) -> None:
        assert why(ended(record(0, [0.5], "running")), max_fold_trainings=3) is not None
        assert why(ended(record(0, [0.5], "pruned")), max_fold_trainings=3) is None

    def test_folds_of_baselines_count(self) -> None:
        history = ended(*scored(0.5))
        history.baselines = {"linear_probe": baseline_of("linear_probe", 0.5, 0.5)}
        assert why(history, max_fold_trainings=6) is None
        said = why(history, max_fold_trainings=5)
        assert said == "search.max_fold_trainings = 5 is spent: 4 are trained, and a trial takes up to 2"

    def test_a_fold_left_at_a_rung_counts_in_part(self) -> None:
        trial = record(0, [], "pruned")
        trial.rungs = [
            RungScore(fold=1, step=step, share=share, val_top1=0.5) for step, share in ((10, 1 / 9), (30, 1 / 3))
        ]
        assert trial.num_trained == 1 / 3
        trial.folds = record(0, [0.5]).folds
        assert trial.num_trained == 1


class TestPlateau:
    plateau: ClassVar = {"trials": 2}

    def test_counts_from_the_last_gain(self) -> None:
        assert why(ended(*scored(0.5, 0.4)), plateau=self.plateau) is None
        assert why(ended(*scored(0.5, 0.4, 0.6)), plateau=self.plateau) is None
        assert (
            why(ended(*scored(0.5, 0.4, 0.5)), plateau=self.plateau) == "no gain above 0 in 2 trials (search.plateau)"
        )

    def test_in_the_order_in_which_trials_ended(self) -> None:
        history = ended(*scored(0.6, 0.4, 0.5))
        history.ended_trials = [1, 2, 0]
        assert why(history, plateau=self.plateau) is None

    def test_small_gains_count_once_they_add_up(self) -> None:
        plateau = {"trials": 2, "min_gain": 0.05}
        assert why(ended(*scored(0.5, 0.52, 0.56)), plateau=plateau) is None
        assert why(ended(*scored(0.5, 0.52, 0.54)), plateau=plateau) is not None

    def test_stopped_trials_count_and_failed_ones_do_not(self) -> None:
        first, *others = scored(0.5, 0.9, 0.9)
        for state, stops in (("pruned", True), ("failed", False)):
            for trial in others:
                trial.state = state  # type: ignore[assignment]
            assert (why(ended(first, *others), plateau=self.plateau) is not None) is stops

    def test_trials_that_end_later_count_from_where_it_was(self) -> None:
        trials = scored(0.5, 0.4, 0.6, 0.5, 0.5)
        progress, history = PlateauProgress(Plateau(trials=2)), ended(*trials)
        history.ended_trials = []
        for number, expected in enumerate([0, 1, 0, 1, 2]):
            history.ended_trials.append(number)
            progress.update(history)
            assert progress.num_without_gain == expected
        assert progress.reached is not None

    def test_there_is_none_before_a_complete_trial(self) -> None:
        assert why(ended(*scored(0.5, 0.4, 0.3, state="pruned")), plateau=self.plateau) is None
