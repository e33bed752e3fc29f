"""The sections of an experiment with every default written out, so that a record keeps its meaning when they change.

A default stands beside the alternatives of a section where it is the same for all of them, else in each alternative.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from trainables.errors import Problem
from tuner.experiment.alternatives import CHOICE, LABEL, NAME, Alternatives, Branches, Condition
from tuner.experiment.dimensions import Choice, Dimension, spell
from tuner.experiment.points import config_at
from tuner.experiment.tree import absolute_path, flatten, is_within, plain, set_leaf

Leaves = dict[str, Any]
"""Leaves of a configuration by dotted path."""


def with_defaults(
    fixed: Mapping[str, Any], dimensions: Mapping[str, Dimension], branches: Branches
) -> tuple[dict[str, Any], Branches]:
    """Returns the fixed tree and the alternatives with every default written out, and with absolute paths."""
    writing = _Writing(fixed, dimensions, branches)
    tree: dict[str, Any] = {section: {} for section in fixed}
    for path, value in writing.leaves_of({}, None).items():
        set_leaf(tree, path, value)
    tree = {section: absolute_path(section, content) for section, content in tree.items()}
    alternatives = {
        key: Alternatives(each.path, each.place, {label: writing.fixed[key, label] for label in each.fixed})
        for key, each in branches.alternatives.items()
    }
    return tree, Branches(alternatives, branches.conditions, branches.paths)


def sections_of(fixed: Mapping[str, Any], dimensions: Mapping[str, Dimension], branches: Branches) -> dict[str, Any]:
    """Returns the sections as they stand in a file, dimensions and alternatives included."""
    tree = copy.deepcopy(dict(fixed))
    _set_dimensions(tree, "", None, dimensions, branches)
    return tree


def dependent_defaults(
    fixed: Mapping[str, Any], dimensions: Mapping[str, Dimension], branches: Branches
) -> Iterator[Problem]:
    """Yields the choices of plain values on which other leaves depend, or their defaults: `method.name`, where the
    methods differ in their settings. Such values have to be alternatives, with the settings of each."""
    for key, dimension in dimensions.items():
        section, _, leaf = branches.path_of(key).rpartition(".")
        if leaf != NAME or not isinstance(dimension, Choice) or key in branches.alternatives:
            continue
        around = branches.completed(dimensions, branches.required(key))
        fits = [_fit(fixed, {**around, key: name}, section, branches) for name in dimension.choice]
        if len({fit.unknown for fit in fits}) > 1 or len({fit.others for fit in fits if fit.others}) > 1:
            forms = ", ".join(f"{{{NAME}: {name}, …}}" for name in dimension.choice)
            expected = f"alternatives, each with settings of its own: `{section}: {{{CHOICE}: [{forms}]}}`"
            yield Problem(branches.place_of(key), expected, spell(dimension))


class _Fit(NamedTuple):
    """How the keys of a section fit its name: those that are unknown, and all leaves but the name, as texts to compare;
    "" where the configuration is invalid."""

    unknown: str
    others: str


def _fit(fixed: Mapping[str, Any], point: Mapping[str, Any], section: str, branches: Branches) -> _Fit:
    try:
        config = config_at(fixed, point, branches=branches).model_dump(mode="json")
    except ValidationError as error:
        found = (detail for detail in error.errors() if detail["type"] == "extra_forbidden")
        return _Fit(str(sorted(str(detail["loc"][-1]) for detail in found if detail["loc"][0] == section)), "")
    return _Fit("[]", str({path: value for path, value in flatten(config).items() if _is_other(path, section)}))


def _is_other(path: str, section: str) -> bool:
    return is_within(path, section) and path != f"{section}.{NAME}"


def clashing_labels(
    fixed: Mapping[str, Any], dimensions: Mapping[str, Dimension], branches: Branches
) -> Iterator[Problem]:
    """Yields the labels that are keys of their section: a record would confuse them. Defaults must be written out."""
    known = {*flatten(fixed), *map(branches.path_of, dimensions)}
    for each in branches.alternatives.values():
        known |= {path for leaves in each.fixed.values() for path in leaves}
    for each in branches.alternatives.values():
        for label in each.fixed:
            if f"{each.path}.{label}" in known:
                yield Problem(each.place_of(label), f"a label that is no key of `{each.path}`", repr(label))


class _Writing:
    """Computes the leaves of each alternative; `fixed` has them by key and label, once `leaves_of` has returned."""

    def __init__(self, fixed: Mapping[str, Any], dimensions: Mapping[str, Dimension], branches: Branches) -> None:
        self.fixed: dict[Condition, Leaves] = {}
        self._tree = fixed
        self._dimensions = dimensions
        self._branches = branches

    def leaves_of(self, chosen: Mapping[str, str], condition: Condition | None) -> Leaves:
        """Returns the fixed leaves of every configuration in which the labels `chosen` are chosen: those that belong to
        no alternative within `condition`, which is the innermost of these choices."""
        branches = self._branches
        point = branches.completed(self._dimensions, chosen)
        config = config_at(self._tree, point, branches=branches).model_dump(mode="json", exclude={"seed"})
        leaves = flatten(config)
        for key in point:
            if key not in branches.alternatives:
                leaves.pop(branches.path_of(key), None)
        for key in branches.within(condition):
            leaves = self._without_alternatives(leaves, key, chosen)
        return leaves

    def _without_alternatives(self, leaves: Leaves, key: str, chosen: Mapping[str, str]) -> Leaves:
        """Gives each alternative its leaves, and returns those of `leaves` that are common to all."""
        alternatives = self._branches.alternatives[key]
        inside = {
            label: {
                path: value
                for path, value in self.leaves_of({**chosen, key: label}, (key, label)).items()
                if is_within(path, alternatives.path)
            }
            for label in alternatives.fixed
        }
        written = {path for label in alternatives.fixed for path in self._written(key, label)}
        first = next(iter(inside.values()))
        common = {
            path
            for path, value in first.items()
            if path not in written and all(path in each and each[path] == value for each in inside.values())
        }
        for label, each in inside.items():
            own = {path: value for path, value in each.items() if path not in common}
            self.fixed[key, label] = _with_absolute_paths(own)
        return {p: v for p, v in leaves.items() if p in common or not any(p in each for each in inside.values())}

    def _written(self, key: str, label: str) -> list[str]:
        deeper = [
            path
            for inner in self._branches.within((key, label))
            for other in self._branches.alternatives[inner].fixed
            for path in self._written(inner, other)
        ]
        return [*self._branches.written(key, label), *deeper]


def _with_absolute_paths(leaves: Leaves) -> Leaves:
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        set_leaf(tree, path, value)
    return flatten({section: absolute_path(section, content) for section, content in tree.items()})


def _set_dimensions(
    tree: dict[str, Any],
    section: str,
    condition: Condition | None,
    dimensions: Mapping[str, Dimension],
    branches: Branches,
) -> None:
    """Sets the dimensions and alternatives that have exactly this condition into the tree of `section`."""
    for key, dimension in dimensions.items():
        if branches.conditions.get(key) != condition:
            continue
        path = branches.path_of(key)[len(section) :].lstrip(".")
        if key not in branches.alternatives:
            set_leaf(tree, path, plain(dimension.model_dump(by_alias=True)))
            continue
        alternatives = branches.alternatives[key]
        listed = []
        for label, leaves in alternatives.fixed.items():
            branch: dict[str, Any] = {}
            if leaves.get(f"{alternatives.path}.{NAME}") != label:
                branch[LABEL] = label
            for leaf, value in leaves.items():
                set_leaf(branch, leaf[len(alternatives.path) + 1 :], value)
            _set_dimensions(branch, alternatives.path, (key, label), dimensions, branches)
            listed.append(branch)
        set_leaf(tree, f"{path}.{CHOICE}".lstrip("."), listed)
