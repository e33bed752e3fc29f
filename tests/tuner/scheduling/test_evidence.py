from __future__ import annotations

import pytest

from tests.tuner.tiny import record
from tuner.experiment.objective import Objective
from tuner.record.events import EarlierTrial
from tuner.record.scores import FoldScore, RungScore
from tuner.scheduling.evidence import earlier_record, intermediate_values


def test_intermediate_values_are_running_means_in_thousandths_of_the_trial() -> None:
    values = intermediate_values(record(0, [0.5, 0.7, 0.9]), num_folds=3)
    assert values == pytest.approx({333: 0.5, 667: 0.6, 1000: 0.7})


def test_rungs_and_folds_stand_on_one_scale() -> None:
    """So that a sampler which ranks by the latest step takes a finished fold for more than a rung."""
    at_rungs, after_a_fold = record(0, [], "pruned"), record(1, [0.5], "pruned")
    at_rungs.rungs = [
        RungScore(fold=1, step=10, share=1 / 9, val_top1=0.2),
        RungScore(fold=1, step=30, share=1 / 3, val_top1=0.3),
    ]
    assert intermediate_values(at_rungs, num_folds=3) == {37: 0.2, 111: 0.3}
    assert max(intermediate_values(after_a_fold, num_folds=3)) > 111


def test_an_earlier_trial_is_scored_by_the_objective_of_this_search() -> None:
    folds = (FoldScore(fold=1, val_top1=0.5, metrics={"log_loss": 0.25}),)
    trial = EarlierTrial(origin="another search", params={"method.alpha": 0.5}, state="complete", folds=folds)
    assert earlier_record(trial).score == 0.5
    assert earlier_record(trial, Objective("log_loss")).score == -0.25
