"""Length of the trainings of an experiment, of which `search.minutes` may take a share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tuner.experiment.search_experiment import SearchExperiment, with_leaves

LENGTH_LEAVES = ("training.num_steps", "training.num_epochs")
"""Leaves of a TrialConfig that say how long a training is."""


def with_training_length(space: SearchExperiment, share: float) -> SearchExperiment:
    """Returns `space` with trainings of this share of their steps, at least one. A length that is searched stays."""
    if any(space.branches.path_of(key) in LENGTH_LEAVES for key in space.dimensions):
        return space
    return with_leaves(space, partial(_shortened, share=share))


def share_of_steps(num_steps: int, share: float) -> int:
    """Returns this share of a number of steps, at least one of any.

    >>> share_of_steps(100, 0.75), share_of_steps(2, 0.1), share_of_steps(0, 0.5)
    (75, 1, 0)
    """
    return max(min(1, num_steps), round(num_steps * share))


def _shortened(leaves: Mapping[str, Any], share: float) -> dict[str, Any]:
    num_steps, num_epochs = (leaves.get(path) for path in LENGTH_LEAVES)
    shorter = {
        LENGTH_LEAVES[0]: None if num_steps is None else share_of_steps(num_steps, share),
        LENGTH_LEAVES[1]: None if num_epochs is None else num_epochs * share,
    }
    return {path: value for path, value in shorter.items() if value is not None}
