"""Alternatives of a section, `method: {choice: [{name: l2}, {name: smile, gamma_fe: {…}}]}`, and their dimensions.

Which alternative a trial has is a dimension itself: its key is the section's (`method`), its values are the labels of
the alternatives. A dimension within one has the key `method.smile.gamma_fe` and a condition: it exists only in trials
that chose that alternative. A trial's point holds the dimensions that exist in it:
`{"method": "smile", "method.smile.gamma_fe": 0.02}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard, TypeVar

from trainables.errors import BadInput, Problem
from tuner.experiment.dimensions import Dimension
from tuner.experiment.tree import flatten, is_within, set_leaf
from tuner.messages.wording import shown

CHOICE, LABEL, NAME = "choice", "label", "name"

Condition = tuple[str, str]
"""Key of the alternatives, and the label that a trial must have chosen of them."""
T = TypeVar("T")


@dataclass(frozen=True)
class Alternatives:
    """The alternatives of the section at `path` of a TrialConfig.

    `place` is where `choice` stands in the file: the section, or the alternative that holds it
    (`method.choice[1]`). `fixed` has the leaves that each alternative fixes, by label and dotted path.
    """

    path: str
    place: str
    fixed: dict[str, dict[str, Any]]

    def place_of(self, label: str) -> str:
        """Where an alternative stands in the file: `method.choice[1]`."""
        return f"{self.place}.{CHOICE}[{list(self.fixed).index(label)}]"


@dataclass(frozen=True)
class Branches:
    """All alternatives of a space, by key; the condition of each dimension that has one; and the dotted path in a
    TrialConfig of each dimension whose key is another one. All are empty for a space without alternatives."""

    alternatives: dict[str, Alternatives] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def path_of(self, key: str) -> str:
        """Dotted path of a dimension's leaf in a TrialConfig; of alternatives, that of their section."""
        return self.alternatives[key].path if key in self.alternatives else self.paths.get(key, key)

    def place_of(self, key: str) -> str:
        """Where a dimension stands in the file: `method.choice[1].gamma_fe`."""
        if key in self.alternatives:
            return f"{self.alternatives[key].place}.{CHOICE}"
        if key not in self.conditions:
            return key
        parent, label = self.conditions[key]
        alternatives = self.alternatives[parent]
        return alternatives.place_of(label) + self.path_of(key)[len(alternatives.path) :]

    def required(self, key: str) -> dict[str, str]:
        """The labels that a trial must have chosen for the dimension to exist in it, outermost first."""
        condition = self.conditions.get(key)
        if condition is None:
            return {}
        parent, label = condition
        return {**self.required(parent), parent: label}

    def is_active(self, key: str, point: Mapping[str, Any]) -> bool:
        """Whether the dimension exists in a trial at `point`."""
        return all(point.get(parent) == label for parent, label in self.required(key).items())

    def active(self, dimensions: Iterable[str], point: Mapping[str, Any]) -> list[str]:
        """Those of `dimensions` that exist in a trial at `point`."""
        return [key for key in dimensions if self.is_active(key, point)]

    def leaves(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Leaves of a TrialConfig that a point decides, by dotted path: its values, and what its alternatives fix."""
        leaves: dict[str, Any] = {}
        for key, value in point.items():
            leaves |= self.alternatives[key].fixed[value] if key in self.alternatives else {self.path_of(key): value}
        return leaves

    def all_leaves(self, fixed: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
        """Every leaf of the configuration at `point` by dotted path; `fixed` is the nested tree beside alternatives."""
        return {path: value for path, value in flatten(fixed).items() if value != {}} | self.leaves(point)

    def completed(self, dimensions: Mapping[str, Dimension], point: Mapping[str, Any]) -> dict[str, Any]:
        """Adds the first value of every other dimension that exists at `point`."""
        whole: dict[str, Any] = {}
        for key, dimension in dimensions.items():
            if self.is_active(key, whole):
                whole[key] = point[key] if key in point else dimension.bounds()[0]
        return whole

    def grid(self, values: Mapping[str, Iterable[T]]) -> Iterator[dict[str, T]]:
        """Yields every combination of the values of each key, the last changing fastest. A key with a condition is in
        those alone that meet it; the keys must be in the order of the dimensions."""
        yield from self._grid(list(values.items()), {})

    def _grid(self, values: list[tuple[str, Iterable[T]]], point: dict[str, T]) -> Iterator[dict[str, T]]:
        for position, (key, choices) in enumerate(values):
            if self.is_active(key, point):
                for value in choices:
                    yield from self._grid(values[position + 1 :], point | {key: value})
                return
        yield point

    def labels_of(self, key: str) -> str:
        """The condition of a dimension in words, `method = smile`; "" where there is none."""
        return ", ".join(f"{parent} = {label}" for parent, label in self.required(key).items())

    def locate(self, where: str, point: Mapping[str, Any], common: Iterable[str]) -> str:
        """Where in the file the key is that the configuration at `point` has at the dotted path `where`.

        What nobody wrote is looked for in the innermost alternative of its section. `common` are the leaves that stand
        beside the alternatives, by dotted path.
        """
        if any(is_within(where, path) for path in common):
            return where
        found = where
        for key, alternatives in self.alternatives.items():
            if self.is_active(key, point) and key in point and is_within(where, alternatives.path):
                label = point[key]
                found = alternatives.place_of(label) + where[len(alternatives.path) :]
                if any(is_within(where, path) for path in self.written(key, label)):
                    return found
        return found

    def written(self, key: str, label: str) -> list[str]:
        """Leaves of an alternative by dotted path, fixed and searched, without those of alternatives within it."""
        inner = [k for k, condition in self.conditions.items() if condition == (key, label)]
        searched = [self.path_of(k) for k in inner if k not in self.alternatives]
        return [*self.alternatives[key].fixed[label], *searched]

    def identity(self, key: str, label: str) -> list[str]:
        """Leaves by which a configuration is one of this alternative: its `name`, else all that it fixes."""
        alternatives = self.alternatives[key]
        name = f"{alternatives.path}.{NAME}"
        return [name] if name in alternatives.fixed[label] else list(alternatives.fixed[label])

    def within(self, condition: Condition | None) -> list[str]:
        """Keys of the alternatives that have exactly this condition."""
        return [key for key in self.alternatives if self.conditions.get(key) == condition]


NO_BRANCHES = Branches()


def are_alternatives(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value of an experiment file is a section with alternatives: `choice` lists sections.

    >>> are_alternatives({"choice": [{"name": "l2"}]}), are_alternatives({"choice": ["l2", "mixup"]})
    (True, False)
    """
    choices = value.get(CHOICE) if isinstance(value, Mapping) else None
    return isinstance(choices, list | tuple) and any(isinstance(choice, Mapping) for choice in choices)


def are_named(value: Any) -> bool:
    """Whether a section has alternatives that differ in `name`, as of methods and backbones."""
    return are_alternatives(value) and any(isinstance(each, Mapping) and NAME in each for each in value[CHOICE])


def beside_alternatives(place: str) -> str:
    """The place of a key if it stood beside all alternatives.

    >>> beside_alternatives("data.choice[1].root")
    'data.root'
    """
    return re.sub(rf"\.{CHOICE}\[\d+\]", "", place)


def override_leaf(tree: dict[str, Any], path: str, value: Any) -> None:
    """Sets the leaf at a dotted path of an experiment file, for all alternatives of its section: those that say the
    leaf themselves lose it.

    Raises:
        BadInput: for the name of a section whose alternatives have names, as they would all be one.
    """
    section, _, rest = path.partition(".")
    if rest == NAME and are_named(tree.get(section)):
        expected = f"one alternative in the place of all, {section}={{{NAME}: …}}, or a key that they share"
        raise BadInput(Problem(path, expected, shown(value)))
    set_leaf(tree, path, value)
    if rest:
        tree[section] = without_leaf(tree[section], rest)


def without_leaf(section: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Returns a copy of a section in which no alternative has the leaf at `path`, relative to the section.

    >>> without_leaf({"choice": [{"label": "a", "x": 1}, {"label": "b"}]}, "x")
    {'choice': [{'label': 'a'}, {'label': 'b'}]}
    """
    copy = dict(section)
    if are_alternatives(section):
        copy[CHOICE] = [
            _dropped(without_leaf(each, path), path) if isinstance(each, Mapping) else each for each in section[CHOICE]
        ]
    head, _, rest = path.partition(".")
    if rest and isinstance(copy.get(head), Mapping):
        copy[head] = without_leaf(copy[head], rest)
    return copy


def _dropped(section: dict[str, Any], path: str) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    if not rest:
        return {key: value for key, value in section.items() if key != head}
    inner = section.get(head)
    return {**section, head: _dropped(dict(inner), rest)} if isinstance(inner, Mapping) else section
