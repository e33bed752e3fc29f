"""Repeats of the cross-validation where the file leaves their number to the data."""

from __future__ import annotations

import math
from dataclasses import replace

from trainables.errors import BadInput, Problem
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import SearchSettings

MIN_VALIDATED = 150
"""Number of validated examples of a trial, those of every deal counted, that `search.repeats: auto` reaches."""
MAX_REPEATS = 3


def num_repeats(num_train: int) -> int:
    """Number of deals for so many training examples.

    A second deal is worth the trials that it costs where the noise of a fold is twice what sets configurations apart,
    measured at 130 to 150 examples; a third where it is three times that, as at 50. See docs/decisions/0034.

    >>> [num_repeats(num_train) for num_train in (33, 50, 130, 150, 2000)]
    [3, 3, 2, 1, 1]
    """
    return min(MAX_REPEATS, max(1, math.ceil(MIN_VALIDATED / num_train)))


def with_repeats(space: SearchExperiment, num_train: int) -> SearchExperiment:
    """Returns `space` with a number in place of `search.repeats: auto`, for so many training examples.

    Raises:
        BadInput: where `search.max_fold_trainings` does not suffice for one trial of as many folds.
    """
    if space.search.repeats != "auto":
        return space
    search = space.search.model_copy(update={"repeats": num_repeats(num_train)})
    budget, folds = search.max_fold_trainings, search.num_trial_folds
    if budget is not None and budget < folds:
        trial = f"the {folds} folds of one trial, {search.folds} folds × {search.repeats} repeats"
        expected = f"at least {trial} (search.repeats is auto, and there are {num_train} training examples)"
        raise BadInput(Problem("search.max_fold_trainings", expected, str(budget)))
    return replace(space, search=search)


def repeats_note(search: SearchSettings, num_train: int) -> str:
    """Reason for the repeats, for the plan; "" where the file gives them, or there is one deal."""
    if search.repeats != "auto" or num_repeats(num_train) == 1:
        return ""
    return f" ({num_repeats(num_train)} repeats, as there are {num_train} training examples)"
