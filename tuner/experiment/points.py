"""Points of a search space, and the trial configurations at them.

A point maps the dotted path of each dimension to a value: `{"method.gamma_fe": 0.02, "method.alpha": 0.4}`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trainables.config import TrialConfig
from trainables.errors import Problem, did_you_mean
from tuner.experiment.dimensions import Choice, Dimension, contains, spell
from tuner.experiment.tree import set_leaf, short_names
from tuner.messages.wording import shown

MAX_COMBINATIONS = 256
"""Combinations of choices that are checked beforehand; an invalid one beyond them fails when its trial starts."""


def config_at(fixed: Mapping[str, Any], point: Mapping[str, Any], seed: int = 0) -> TrialConfig:
    """Builds the configuration of the fixed tree `fixed` with the values of `point`. Raises pydantic's ValidationError.

    Every configuration of a search is made here: of proposals, boundary values and probes.
    """
    tree: dict[str, Any] = {**copy.deepcopy(dict(fixed)), "seed": seed}
    for path, value in point.items():
        set_leaf(tree, path, value)
    return TrialConfig.model_validate(tree)


def boundary_points(dimensions: Mapping[str, Dimension]) -> Iterator[dict[str, Any]]:
    """Yields the points at which a space can be invalid: every boundary value of every dimension, the others at their
    first value, and the combinations of choices."""
    first = {path: dimension.bounds()[0] for path, dimension in dimensions.items()}
    yield first
    for path, dimension in dimensions.items():
        for value in dimension.boundary_values()[1:]:
            yield first | {path: value}
    choices = {path: dimension.choice for path, dimension in dimensions.items() if isinstance(dimension, Choice)}
    if len(choices) > 1:
        for point in itertools.islice(grid(choices), MAX_COMBINATIONS):
            yield first | point


def grid(values: Mapping[str, Iterable[Any]]) -> Iterator[dict[str, Any]]:
    """Yields every combination of the values of each path."""
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def by_path(point: Mapping[str, Any], dimensions: Iterable[str]) -> dict[str, Any]:
    """Renames the short names in `point` to dotted paths of `dimensions`; other keys stay.

    >>> by_path({"gamma_fe": 0.02}, ["method.gamma_fe"])
    {'method.gamma_fe': 0.02}
    """
    paths = {name: path for path, name in short_names(dimensions).items()}
    return {paths.get(key, key): value for key, value in point.items()}


def first_point_problems(
    points: Iterable[Mapping[str, Any]], dimensions: Mapping[str, Dimension], invalid: Iterable[str] = ()
) -> Iterator[Problem]:
    """Yields what is wrong with `search.first_points`, whose keys may be short names or dotted paths.

    Any value may be given for the paths in `invalid`, dimensions that have a problem of their own.
    """
    names = short_names([*dimensions, *invalid])
    by_name = {name: path for path, name in names.items()} | {path: path for path in names}
    known = f"one of the dimensions {', '.join(names.values())}" if names else "no key, as nothing is searched"
    for position, point in enumerate(points):
        given: dict[str, str] = {}
        for key, value in point.items():
            where = f"search.first_points[{position}].{key}"
            path = by_name.get(key)
            if path is None:
                yield Problem(where, known, f"{shown(key)}{did_you_mean(str(key), by_name, count=1)}")
            elif path in given:
                yield Problem(where, "a dimension that is given once", f"{given[path]!r} and {key!r}")
            elif path in dimensions and not contains(dimensions[path], value):
                yield Problem(where, f"a value of {spell(dimensions[path])}", shown(value))
            given |= {} if path is None else {path: key}
