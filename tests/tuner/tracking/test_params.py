"""Params of runs, computed from events that do not repeat the configuration."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.tuner.tiny import METHODS, TRAININGS, search_started, space_of
from trainables.config import TrialConfig
from tuner.experiment.search_experiment import SEARCHABLE
from tuner.experiment.tree import flatten
from tuner.record.events import SearchStarted
from tuner.tracking.params import (
    TRIAL_SECTIONS,
    as_text,
    by_short_name,
    config_leaves,
    from_text,
    search_params,
    trial_params,
)


def test_the_sections_are_those_that_can_be_searched() -> None:
    assert TRIAL_SECTIONS == SEARCHABLE
    assert {*TRIAL_SECTIONS, "seed"} == TrialConfig.model_fields.keys()


def recorded(**changes: Any) -> SearchStarted:
    """The event as the journal has it."""
    started = search_started(space_of(**changes))
    return SearchStarted.model_validate_json(started.model_dump_json())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"search__seed": 3},
        {"training__schedule": {"choice": ["step", "cosine"]}, "data__flip": {"choice": [True, False]}},
    ],
)
def test_a_trial_has_every_leaf_of_its_configuration(changes: dict[str, Any]) -> None:
    space, started = space_of(**changes), recorded(**changes)
    params = {path: dimension.bounds()[0] for path, dimension in space.dimensions.items()}
    config = flatten(space.trial_config(params).model_dump(mode="json"))
    assert trial_params(started, params) == config | by_short_name(started, params)


def test_a_search_has_its_dimensions_in_words_and_its_fixed_leaves() -> None:
    space = space_of()
    words = {"gamma_fe": "log_uniform [0.01, 0.1]", "alpha": "uniform [0.1, 1.0]"}
    assert search_params(recorded()) == words | flatten(space.fixed)


@pytest.mark.parametrize("method", ["l2", "mixup", "smile"])
def test_a_trial_has_the_leaves_of_its_alternatives_and_nothing_of_others(method: str) -> None:
    changes = {"method": METHODS, "training": TRAININGS}
    space, started = space_of(**changes), recorded(**changes)
    params = space.branches.completed(space.dimensions, {"method": method})
    config = flatten(space.trial_config(params).model_dump(mode="json"))
    logged = trial_params(started, params)
    assert logged == config | by_short_name(started, params)
    assert ("gamma_fe" in logged) == (method == "smile")
    assert config_leaves({key: as_text(value) for key, value in logged.items()}) == config
    assert all(re.fullmatch(r"[\w./: -]+", key) for key in logged)  # as MLflow allows


def test_a_search_has_its_alternatives_and_their_conditions_in_words() -> None:
    params = search_params(recorded(method=METHODS))
    assert params["method"] == "choice [l2, mixup, smile]"
    assert params["gamma_fe"] == "log_uniform [0.01, 0.1] if method = smile"
    assert not [key for key in params if "choice" in key]


def test_dimensions_that_end_alike_keep_their_paths() -> None:
    started = SearchStarted(name="a", run="b", space={}, dimensions={"method.alpha": "…", "training.alpha": "…"})
    params = {"method.alpha": 1, "training.alpha": 2}
    assert by_short_name(started, params) == params


@pytest.mark.parametrize("value", ["smile", 1, 0.5, True, None, [1, 2], ""])
def test_a_text_is_read_as_what_was_written(value: Any) -> None:
    assert from_text(as_text(value)) == value
