"""A score is a value in the direction in which more is better."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.tuner.tiny import space_of
from trainables.errors import BadInput
from trainables.metrics import LOWER_IS_BETTER
from trainables.metrics import METRICS as KNOWN
from trainables.results import FoldResult
from tuner.experiment.objective import LABELS, LOSSES, TOP1, Objective, ObjectiveName, mean_metrics, objective_of

METRICS = {"top1": 0.75, "balanced_accuracy": 0.7, "macro_f1": 0.6, "log_loss": 0.9, "calibration_error": 0.1}
RESULT = FoldResult(1, 0.75, 1.0, metrics=METRICS)
OLDER = FoldResult(1, 0.75, 1.0)
"""A result of a version that recorded top-1 alone."""


@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_the_value_is_the_metric_and_the_larger_score_is_the_better(name: ObjectiveName) -> None:
    objective = Objective(name)
    assert objective.value(RESULT) == METRICS[name]
    assert objective.score(RESULT) == (-METRICS[name] if name in LOWER_IS_BETTER else METRICS[name])
    assert (name in LOSSES) == (name in LOWER_IS_BETTER)
    assert objective.value_of(objective.score(RESULT)) == METRICS[name]
    assert objective.spell(objective.score(RESULT)) == f"{LABELS[name]} {METRICS[name]:.4f}"


def test_every_metric_has_a_label() -> None:
    assert LABELS.keys() == KNOWN.keys() == METRICS.keys()
    assert set(get_args(ObjectiveName)) < KNOWN.keys()


def test_an_older_record_knows_top1_alone() -> None:
    assert TOP1.is_known(OLDER)
    assert TOP1.scores([OLDER, RESULT]) == [0.75, 0.75]
    assert not Objective("macro_f1").is_known(OLDER)
    assert mean_metrics([OLDER]) == {"top1": 0.75}


def test_means_are_of_the_metrics_that_all_results_have() -> None:
    other = FoldResult(2, 0.25, 1.0, metrics={"top1": 0.25, "log_loss": 1.1})
    assert mean_metrics([RESULT, other]) == {"top1": 0.5, "log_loss": pytest.approx(1.0)}
    assert mean_metrics([]) == {}


def test_an_experiment_names_it_or_means_top1() -> None:
    assert objective_of(space_of(search__objective="log_loss").as_tree()) == Objective("log_loss")
    assert objective_of(space_of().as_tree()) == TOP1
    with pytest.raises(BadInput, match=r"search\.objective: expected .*balanced_accuracy.*, got 'auc'"):
        space_of(search__objective="auc")
