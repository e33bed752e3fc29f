"""The rules over simulated scores, where it is known what they should say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.tuner.tiny import record, with_losses
from trainables.seeding import rng_for
from tuner.experiment.objective import Objective
from tuner.experiment.settings import AshaRacing, FoldRacing, MedianRacing, NoRacing, Racing
from tuner.record.history import TrialRecord
from tuner.record.scores import RungScore
from tuner.record.selection import best_trial
from tuner.record.trial_totals import TrialTotals
from tuner.scheduling.racing import (
    MAX_NOISE_TRIALS,
    fold_noise,
    rungs,
    stop_reason_after_fold,
    stop_reason_at_rung,
)

COMPLETE = [record(0, [0.80, 0.70, 0.90]), record(1, [0.60, 0.52, 0.70]), record(2, [0.50, 0.40, 0.62])]


def running(number: int, scores: Sequence[float], source: str = "sampler") -> TrialRecord:
    trial = record(number, scores, "running")
    trial.source = source
    return trial


def asked(rule: Racing, trial: TrialRecord, known: Sequence[TrialRecord] = COMPLETE) -> str | None:
    return stop_reason_after_fold(rule, trial, TrialTotals([*known, trial]), num_folds=3)


def raced(scores_TF: Any, rule: Racing, first_points: int = 0) -> list[TrialRecord]:
    """One trial after the other, each for as many folds as the rule lets it."""
    known: list[TrialRecord] = []
    for number, scores in enumerate(scores_TF):
        known.append(running(number, [], "first_point" if number < first_points else "sampler"))
        for k in range(1, len(scores) + 1):
            known[-1].folds = record(number, [float(score) for score in scores[:k]]).folds
            if k == len(scores):
                known[-1].state = "complete"
            elif stop_reason_after_fold(rule, known[-1], TrialTotals(known), len(scores)) is not None:
                known[-1].state = "pruned"
                break
    return known


class TestFolds:
    def test_stops_what_is_hopeless_and_says_by_how_much(self) -> None:
        said = asked(FoldRacing(), running(3, [0.5]))
        assert said is not None
        assert said.startswith("after 1 of 3 folds 0.3000 behind trial-0000, margin 0.0")

    def test_what_is_ahead_goes_on_whatever_the_margin(self) -> None:
        for scores in ([0.80], [0.81], [0.85, 0.65]):
            assert asked(FoldRacing(margin=0), running(3, scores)) is None

    def test_is_paired_so_that_a_hard_fold_is_not_held_against_a_trial(self) -> None:
        assert asked(FoldRacing(), running(3, [0.80, 0.70])) is None  # the best one's, below its own mean of 0.8
        assert asked(FoldRacing(), running(3, [0.70, 0.80])) is None

    def test_within_the_margin_goes_on_and_beyond_it_stops(self) -> None:
        noise_sd, _ = fold_noise([trial.fold_scores for trial in COMPLETE])
        just_behind, far_behind = running(3, [0.8 - 1.3 * noise_sd]), running(3, [0.8 - 3 * noise_sd])
        assert asked(FoldRacing(), just_behind) is None
        assert asked(FoldRacing(), far_behind) is not None
        assert asked(FoldRacing(margin=3), far_behind) is None
        assert asked(FoldRacing(margin=0), just_behind) is not None

    def test_the_margin_shrinks_with_folds_and_with_what_is_known(self) -> None:
        def margin(trial: TrialRecord, known: Sequence[TrialRecord] = COMPLETE) -> float:
            said = asked(FoldRacing(), trial, known)
            assert said is not None
            return float(said.rpartition(" ")[2])

        again = [record(10 + i, trial.fold_scores) for i, trial in enumerate(COMPLETE)]
        one, two = margin(running(3, [0.1])), margin(running(3, [0.1, 0.1]))
        assert two == pytest.approx(one / 2**0.5, abs=1e-3)
        assert margin(running(3, [0.1]), [*COMPLETE, *again, *again]) < one

    def test_the_noise_is_that_of_the_better_half(self) -> None:
        """What a diverging trial scores on its folds says nothing of how sure the best one's score is."""
        wild = [record(10 + i, scores) for i, scores in enumerate([[0.1, 0.4, 0.0], [0.3, 0.0, 0.2], [0.0, 0.1, 0.4]])]
        trial = running(20, [0.7])
        assert asked(FoldRacing(), trial, [*COMPLETE, *wild]) == asked(FoldRacing(), trial)
        assert asked(FoldRacing(), trial, wild[:2] + COMPLETE[:1]) is None

    def test_the_noise_is_that_of_a_bounded_number_of_the_best(self) -> None:
        scores_TF = rng_for(0, "many").random((3 * MAX_NOISE_TRIALS, 3))
        many = [record(number, [float(score) for score in scores]) for number, scores in enumerate(scores_TF)]
        best = sorted(many, key=lambda trial: -(trial.score or 0.0))[:MAX_NOISE_TRIALS]
        noise_sd, _ = fold_noise([trial.fold_scores for trial in best])
        behind = running(999, [best[0].fold_scores[0] - 2.5 * noise_sd])
        said = asked(FoldRacing(), behind, many)
        assert said is not None
        assert said == asked(FoldRacing(), behind, [*many, *(record(1000 + i, [0.1, 0.2, 0.0]) for i in range(50))])

    def test_nothing_is_stopped_before_enough_are_complete_nor_a_first_point_ever(self) -> None:
        assert asked(FoldRacing(), running(3, [0.0]), COMPLETE[:2]) is None
        assert asked(FoldRacing(min_complete=4), running(3, [0.0])) is None
        assert asked(FoldRacing(), running(3, [0.0], "first_point")) is None

    def test_what_did_not_complete_is_no_evidence(self) -> None:
        others = [record(4, [1.0], "pruned"), record(5, [1.0, 1.0], "failed"), running(6, [1.0, 1.0])]
        assert asked(FoldRacing(), running(3, [0.8]), [*COMPLETE, *others]) is None

    @pytest.mark.parametrize("seed", range(20))
    def test_without_noise_the_best_wins_at_any_margin(self, seed: int) -> None:
        rng = rng_for(seed, "test")
        scores_TF = rng.random(12)[:, None] + rng.random(3)
        known = raced(scores_TF, FoldRacing(margin=0))
        best = best_trial(known)
        assert best is not None
        assert best.number == scores_TF.mean(1).argmax()
        assert sum(trial.state == "pruned" for trial in known) > 0

    @pytest.mark.parametrize("seed", range(5))
    def test_some_trial_always_completes_and_first_points_do(self, seed: int) -> None:
        scores_TF = rng_for(seed, "noise").random((12, 3))
        known = raced(scores_TF, FoldRacing(margin=0), first_points=4)
        assert all(trial.state == "complete" for trial in known[:4])

    def test_equal_trials_all_complete(self) -> None:
        assert {trial.state for trial in raced(np.full((8, 3), 0.9), FoldRacing(margin=0))} == {"complete"}


class TestFoldNoise:
    def scores(self, num_trials: int = 400, noise_sd: float = 0.05) -> Any:
        rng = rng_for(0, "fold noise")
        return rng.random((num_trials, 1)) + rng.random(3) + noise_sd * rng.normal(size=(num_trials, 3))

    def test_is_the_sd_of_the_noise(self) -> None:
        assert fold_noise(self.scores())[0] == pytest.approx(0.05, rel=0.1)

    def test_does_not_depend_on_the_order_of_trials_or_folds_nor_on_their_effects(self) -> None:
        scores_TF = self.scores(num_trials=5)
        expected = pytest.approx(fold_noise(scores_TF))
        assert fold_noise(scores_TF[::-1]) == expected
        assert fold_noise(scores_TF[:, [2, 0, 1]]) == expected
        assert fold_noise(scores_TF + np.array([0.3, 0.0, -0.2])) == expected
        assert fold_noise(scores_TF + np.arange(5.0)[:, None]) == expected

    def test_degrees_of_freedom(self) -> None:
        assert fold_noise(self.scores(num_trials=4))[1] == 6

    def test_on_average_it_is_right_however_few_the_trials(self) -> None:
        variances = [fold_noise(rng_for(i, "few").normal(size=(3, 3)))[0] ** 2 for i in range(500)]
        assert np.mean(variances) == pytest.approx(1.0, abs=0.1)


class TestMedian:
    def test_stops_below_the_median_of_as_many_folds(self) -> None:
        rule = MedianRacing()
        assert asked(rule, running(3, [0.61])) is None
        assert asked(rule, running(3, [0.60, 0.52])) is None
        said = asked(rule, running(3, [0.59]))
        assert said == "after 1 of 3 folds at 0.5900, below the median 0.6000 of 3 complete trials"

    def test_waits_and_spares_first_points(self) -> None:
        assert asked(MedianRacing(min_complete=4), running(3, [0.0])) is None
        assert asked(MedianRacing(), running(3, [0.0], "first_point")) is None


class TestAsha:
    rule = AshaRacing(reduction_factor=3, num_rungs=2)

    def at_rung(self, number: int, score: float, source: str = "sampler", step: int = 10) -> TrialRecord:
        trial = running(number, [], source)
        trial.rungs = [RungScore(fold=1, step=step, share=1 / 9, val_top1=score)]
        return trial

    def asked(self, scores: Sequence[float], **own: Any) -> str | None:
        known = [self.at_rung(i, score) for i, score in enumerate(scores[:-1])]
        trial = self.at_rung(len(known), scores[-1], **own)
        return stop_reason_at_rung(self.rule, trial, TrialTotals([*known, trial]), num_folds=3)

    def test_rungs_are_parts_of_the_first_fold(self) -> None:
        assert rungs(self.rule, 90) == {10: 1 / 9, 30: 1 / 3}
        assert list(rungs(self.rule, 45).values()) == list(rungs(self.rule, 90).values())
        assert rungs(self.rule, 1) == {}
        assert rungs(FoldRacing(), 90) == {}

    def test_the_first_goes_on_and_then_the_best_third(self) -> None:
        assert self.asked([0.1]) is None
        assert self.asked([0.1, 0.2]) is None
        assert self.asked([0.2, 0.1]) == "after step 10 of fold 1 at 0.1000, and the best 1/3 of 2 trials had 0.2000"
        assert self.asked([0.1, 0.2, 0.3, 0.4, 0.6, 0.5]) is None
        assert self.asked([0.1, 0.2, 0.3, 0.6, 0.6, 0.5]) is not None

    def test_trials_of_different_lengths_meet_at_the_same_share(self) -> None:
        assert self.asked([0.2, 0.1], step=5) is not None

    def test_spares_first_points(self) -> None:
        assert self.asked([0.2, 0.1], source="first_point") is None

    def test_says_nothing_after_a_fold(self) -> None:
        assert asked(self.rule, running(3, [0.0])) is None


def test_without_racing_everything_goes_on() -> None:
    assert asked(NoRacing(), running(3, [0.0])) is None


class TestOfALoss:
    """Where less is better, a rule decides as it does about scores in which more is."""

    def test_trials_are_stopped_that_would_be_of_the_mirrored_scores(self) -> None:
        rng = rng_for(0, "losses")
        for _ in range(20):
            known = [record(number, list(rng.random(3))) for number in range(6)]
            trial = running(6, list(rng.random(2)))
            of_scores = [asked(rule, trial, known) for rule in (FoldRacing(margin=0.3), MedianRacing())]
            for each in (*known, trial):
                with_losses(each)
            of_losses = [asked(rule, trial, known) for rule in (FoldRacing(margin=0.3), MedianRacing())]
            assert [said is None for said in of_losses] == [said is None for said in of_scores]
            assert of_losses[0] == of_scores[0]  # which says a difference

    def test_the_values_are_said_as_they_are(self) -> None:
        known = [with_losses(record(number, trial.fold_scores)) for number, trial in enumerate(COMPLETE)]
        said = asked(MedianRacing(), with_losses(running(3, [0.5])), known)
        assert said == "after 1 of 3 folds at 0.5000, above the median 0.4000 of 3 complete trials"

    def test_of_a_rung_the_least_go_on(self) -> None:
        def at_rung(number: int, loss: float) -> TrialRecord:
            trial = running(number, [])
            trial.objective = Objective("log_loss")
            trial.rungs = [RungScore(fold=1, step=10, share=1 / 9, val_top1=0.5, metrics={"log_loss": loss})]
            return trial

        known = [at_rung(0, 0.5), at_rung(1, 1.5), at_rung(2, 1.0)]
        rule = AshaRacing(reduction_factor=3, num_rungs=2)
        good, bad = at_rung(3, 0.4), at_rung(3, 0.9)
        assert stop_reason_at_rung(rule, good, TrialTotals([*known, good]), num_folds=3) is None
        said = stop_reason_at_rung(rule, bad, TrialTotals([*known, bad]), num_folds=3)
        assert said == "after step 10 of fold 1 at 0.9000, and the best 1/3 of 4 trials had 0.5000"
