"""Checks of an experiment before anything runs: the experiment itself, and its MLflow store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from trainables.errors import BadInput, Problem
from tuner.experiment.checks import Plan, check_experiment
from tuner.experiment.search_experiment import Experiment, SearchExperiment
from tuner.experiment.settings import tracking_uri

Result = TypeVar("Result")


def check_search(space: SearchExperiment) -> Plan:
    """Checks an experiment and its MLflow store, which is opened once. Returns the plan.

    Raises:
        BadInput: with all problems of both.
    """
    return check_with_store(space, lambda: check_experiment(space))


def check_with_store(experiment: Experiment, check: Callable[[], Result]) -> Result:
    """Calls `check` and returns its result, after a check of the store of `experiment`, too.

    Raises:
        BadInput: with all problems of both.
    """
    from tuner.tracking.store import check_store

    problems: list[Problem] = []
    result: Result | None = None
    try:
        result = check()
    except BadInput as bad:
        problems += bad.problems
    try:
        check_store(tracking_uri(experiment.tracking.uri))
    except BadInput as bad:
        problems += bad.in_file(experiment.file).problems
    if problems or result is None:
        raise BadInput(problems)
    return result
