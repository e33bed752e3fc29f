"""Dimensions that no search may have: those that decide which examples a score is of, as scores are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainables.data.config import IMAGE_VIEW, TEXT_VIEW
from trainables.errors import Problem
from tuner.experiment.alternatives import Branches
from tuner.experiment.dimensions import Dimension, spell
from tuner.messages.wording import shown

VIEW = (*IMAGE_VIEW, *TEXT_VIEW)
"""Keys of `data` that may be dimensions: they change how examples are seen, and all others which these are."""

EXPECTED = "a value, as scores on different examples cannot be compared (a column of tuner.compare has data of its own)"


def incomparable_dimensions(dimensions: Mapping[str, Dimension], branches: Branches) -> Iterator[Problem]:
    """Yields the dimensions that change which examples are trained on or scored, and such keys of alternatives."""
    for key, dimension in dimensions.items():
        if key not in branches.alternatives and _decides_examples(branches.path_of(key)):
            yield Problem(branches.place_of(key), EXPECTED, spell(dimension))
    for alternatives in branches.alternatives.values():
        written = {path for leaves in alternatives.fixed.values() for path in leaves if _decides_examples(path)}
        for path in sorted(written):
            values = {label: leaves.get(path) for label, leaves in alternatives.fixed.items()}
            if any(value != next(iter(values.values())) for value in values.values()):
                label = next(label for label, leaves in alternatives.fixed.items() if path in leaves)
                place = alternatives.place_of(label) + path[len(alternatives.path) :]
                yield Problem(place, EXPECTED, ", ".join(f"{shown(value)} in {key}" for key, value in values.items()))


def _decides_examples(path: str) -> bool:
    section, _, key = path.partition(".")
    return section == "data" and bool(key) and key.partition(".")[0] not in VIEW
