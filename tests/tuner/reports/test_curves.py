"""Learning curves of the best trial, as figures and in words."""

from __future__ import annotations

from dataclasses import replace

from tests.tuner.tiny import record
from trainables.results import FoldResult
from tuner.experiment.objective import TOP1, Objective
from tuner.record.history import TrialRecord
from tuner.reports.curves import curve_metrics, curve_plot, curves_note

CURVE = {"top1": [0.25, 0.75, 0.5], "log_loss": [1.5, 0.75, 1.0], "macro_f1": [0.2, 0.7, 0.4]}


def with_curves(objective: Objective = TOP1, kept_share: float = 1.0) -> TrialRecord:
    trial = record(0, [0.5, 0.5])
    trial.objective = objective
    trial.folds = [
        replace(fold, metrics={name: values[-1] for name, values in CURVE.items()}, curve_steps=[2, 5, 10])
        for fold in trial.folds
    ]
    trial.folds = [replace(fold, curve_metrics=CURVE, kept_share=kept_share) for fold in trial.folds]
    return trial


def test_the_objective_comes_first_and_short_folds_have_none() -> None:
    assert list(curve_metrics(with_curves()).values()) == ["top1", "log_loss"]
    assert list(curve_metrics(with_curves(Objective("macro_f1"))).values()) == ["macro_f1", "top1", "log_loss"]
    assert curve_metrics(record(0, [0.5])) == curve_metrics(None) == {}


def test_a_line_is_a_fold_and_a_ring_what_was_kept() -> None:
    lines = curve_plot("log_loss", with_curves().folds).data
    assert [list(line.y) for line in lines] == [CURVE["log_loss"]] * 2
    assert [list(line.x) for line in lines] == [[2, 5, 10]] * 2
    line, ring = curve_plot("log_loss", with_curves(kept_share=0.5).folds[:1]).data
    assert (list(ring.x), list(ring.y)) == ([5], [0.75])
    assert list(line.y) == CURVE["log_loss"]


def test_that_the_best_is_optimistic_is_said() -> None:
    assert "optimistic" not in curves_note(TOP1, with_curves())
    said = curves_note(Objective("log_loss"), with_curves(kept_share=0.5))
    assert "its best weights by log loss (ringed), after 50% of the steps on average" in said
    assert "optimistic" in said


def test_a_fold_of_an_earlier_version_has_no_curve() -> None:
    assert curve_plot("top1", [FoldResult(1, 0.5, 1.0)]).data[0].y == ()
