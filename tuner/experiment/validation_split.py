"""Number of folds where scores are of the dataset's own validation split, which is one fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainables.errors import Problem
from tuner.experiment.splitting import SplitSections
from tuner.messages.wording import shown

KEY, OWN = "data.validation", "folder"


def has_validation_split(split: SplitSections) -> bool:
    """Whether the sections say `validation: folder`, beside alternatives of `data` or in these."""
    inside = (leaves for each in split.branches.alternatives.values() for leaves in each.fixed.values())
    return any(leaves.get(KEY) == OWN for leaves in (split.leaves({}), *inside))


def fold_problems(split: SplitSections, search: Any) -> Iterator[Problem]:
    """Yields the problems of the folds and repeats that `search`, the section as it was written, asks for."""
    given = search if isinstance(search, Mapping) else {}
    if not has_validation_split(split):
        if given.get("folds") == 1:
            yield Problem("search.folds", "a number of at least 2 (1 with data.validation: folder)", "1")
        return
    for key in ("folds", "repeats"):
        if given.get(key) not in (None, 1, "auto"):
            expected = "1, or nothing, as data.validation: folder is one fold"
            yield Problem(f"search.{key}", expected, shown(given[key]))
