"""An experiment with the precisions that were decided for it, in place of `auto`."""

from __future__ import annotations

import copy
from dataclasses import replace

from tuner.experiment.precision import Precisions
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.tree import flatten, set_leaf


def with_precisions(space: SearchExperiment, precisions: Precisions) -> SearchExperiment:
    """Returns `space` with the precisions in place of `auto`, beside alternatives and within them."""
    fixed = copy.deepcopy(space.fixed)
    for path, value in precisions.in_place_of_auto(flatten(fixed)).items():
        set_leaf(fixed, path, value)
    alternatives = {
        key: replace(
            each, fixed={label: leaves | precisions.in_place_of_auto(leaves) for label, leaves in each.fixed.items()}
        )
        for key, each in space.branches.alternatives.items()
    }
    return replace(space, fixed=fixed, branches=replace(space.branches, alternatives=alternatives))
