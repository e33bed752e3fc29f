"""Splits the sections of an experiment file into what is fixed, its dimensions, and its alternatives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trainables.errors import BadInput, Problem
from tuner.experiment.alternatives import CHOICE, LABEL, NAME, Alternatives, Branches, Condition, are_alternatives
from tuner.experiment.dimensions import Choice, Dimension, parse_dimension
from tuner.experiment.tree import flatten, is_within, set_leaf
from tuner.messages.wording import NOTHING, shown

LABELS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.: -]|/(?=[A-Za-z0-9]))*")
"""Labels that can be a part of a name in MLflow."""

EXAMPLES = {
    "method": "{choice: [{name: l2}, {name: mixup, alpha: 0.2}]}",
    "backbone": "{choice: [{name: package/efficientnet_lite0}, {name: timm/resnet18}]}",
}
EXAMPLE = "{choice: [{label: a, …}, {label: b, …}]}"


class _Place(NamedTuple):
    """A section or leaf: its key as a dimension, its dotted path in a TrialConfig, its place in the file, and the
    alternative that it belongs to."""

    key: str
    path: str
    place: str
    condition: Condition | None = None

    def below(self, name: str) -> _Place:
        return _Place(f"{self.key}.{name}", f"{self.path}.{name}", f"{self.place}.{name}", self.condition)


@dataclass
class SplitSections:
    """What the sections of an experiment file say. `fixed` is nested and has no leaf of any alternative; `invalid` are
    the keys of dimensions that `problems` are about; `is_whole` says whether all alternatives could be told apart."""

    fixed: dict[str, Any] = field(default_factory=dict)
    dimensions: dict[str, Dimension] = field(default_factory=dict)
    branches: Branches = field(default_factory=Branches)
    invalid: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    is_whole: bool = True

    @property
    def common(self) -> list[str]:
        """Leaves that stand beside all alternatives, fixed and searched, by dotted path."""
        searched = (key for key in self.dimensions if key not in self.branches.alternatives)
        return [*self.leaves({}), *(key for key in searched if key not in self.branches.conditions)]

    def leaves(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Every leaf of the configuration at `point`, by dotted path."""
        return self.branches.all_leaves(self.fixed, point)

    def _take(self, tree: Mapping[str, Any], at: _Place) -> dict[str, Any]:
        """Returns the fixed part of a section; notes its dimensions and alternatives."""
        fixed: dict[str, Any] = {}
        for name, value in tree.items():
            inner = at.below(str(name))
            if name == CHOICE:
                self._take_alternatives(value, at)
            elif are_alternatives(value) or (isinstance(value, Mapping) and len(value) > 1):
                fixed[name] = self._take(value, inner)
            else:
                try:
                    dimension = parse_dimension(value, inner.place)
                except BadInput as bad:
                    self.problems += bad.problems
                    self.invalid.append(inner.key)
                    self._note(inner)
                    continue
                if dimension is not None:
                    self._add(dimension, inner)
                else:
                    fixed[name] = self._take(value, inner) if isinstance(value, Mapping) else value
        return fixed

    def _add(self, dimension: Dimension, at: _Place) -> None:
        if at.key in self.dimensions:
            self._refuse(at.place, "a label that makes other names than the keys beside it", shown(at.key))
        self.dimensions[at.key] = dimension
        self._note(at)

    def _note(self, at: _Place) -> None:
        if at.condition is not None:
            self.branches.conditions[at.key] = at.condition
            self.branches.paths[at.key] = at.path

    def _take_alternatives(self, items: Any, at: _Place) -> None:
        place = f"{at.place}.{CHOICE}"
        if not isinstance(items, list | tuple) or not all(isinstance(item, Mapping) for item in items) or not items:
            example = EXAMPLES.get(at.path, EXAMPLE)
            self._refuse(place, f"alternatives, each with keys of its own: `{at.path}: {example}`", shown(items))
            return
        labels = [self._label(item, f"{place}[{i}]") for i, item in enumerate(items)]
        for label, count in Counter(labels).items():
            if count > 1:
                self._refuse(place, "alternatives whose `label`, or else `name`, differ", f"{count} times {label!r}")
                return
        self._add(Choice(choice=tuple(labels)), at)
        self.branches.alternatives[at.key] = Alternatives(at.path, at.place, {})
        of_label = self.branches.alternatives[at.key].fixed
        for i, (label, item) in enumerate(zip(labels, items, strict=True)):
            inside = _Place(f"{at.key}.{label}", at.path, f"{place}[{i}]", (at.key, label))
            of_label[label] = {}
            tree = self._take({key: value for key, value in item.items() if key != LABEL}, inside)
            of_label[label] |= flatten(tree, f"{at.path}.")

    def _label(self, item: Mapping[str, Any], place: str) -> str:
        key = LABEL if LABEL in item else NAME
        label = item.get(key)
        if isinstance(label, str) and LABELS.fullmatch(label) and label == label.strip():
            return label
        if label is None or isinstance(label, Mapping):
            expected = "a `label`, or else a fixed `name`, by which the alternative goes"
            self._refuse(place, expected, NOTHING if label is None else shown(label))
        else:
            self._refuse(
                f"{place}.{key}", "a label of letters, digits, '_', '-', '.', ':', '/' and spaces", shown(label)
            )
        return place

    def _refuse(self, where: str, expected: str, got: str) -> None:
        self.problems.append(Problem(where, expected, got))
        self.is_whole = False


def split_sections(tree: Mapping[str, Any], sections: Iterable[str]) -> SplitSections:
    """Splits the sections of an experiment file; a section that is missing or no mapping is left out.

    >>> split = split_sections({"method": {"choice": [{"name": "l2"}, {"name": "mixup", "alpha": 0.3}]}}, ["method"])
    >>> split.dimensions
    {'method': Choice(choice=('l2', 'mixup'))}
    >>> split.leaves({"method": "mixup"})
    {'method.name': 'mixup', 'method.alpha': 0.3}
    """
    split = SplitSections()
    for section in sections:
        content = tree.get(section)
        if isinstance(content, Mapping):
            split.fixed[section] = split._take(content, _Place(section, section, section))
    split.problems += _given_twice(split)
    return split


def _given_twice(split: SplitSections) -> Iterator[Problem]:
    """Yields the keys of alternatives that are given beside `choice`, too."""
    branches = split.branches
    outside: dict[Condition | None, Sequence[str]] = {None: split.common}
    for key, alternatives in branches.alternatives.items():
        beside = outside[branches.conditions.get(key)]
        for label in alternatives.fixed:
            written = branches.written(key, label)
            outside[key, label] = [*beside, *written]
            for path in written:
                if any(is_within(path, other) or is_within(other, path) for other in beside):
                    place = alternatives.place_of(label) + path[len(alternatives.path) :]
                    expected = "a key that is given either in the alternatives or beside `choice`, for all of them"
                    yield Problem(place, expected, "both")


def section_at_first(tree: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Returns a section of `tree` with every dimension at its first value, to check it where others are broken."""
    split = split_sections(tree, [section])
    filled: dict[str, Any] = {section: {}}
    for path, value in split.leaves(split.branches.completed(split.dimensions, {})).items():
        set_leaf(filled, path, value)
    filled_section: dict[str, Any] = filled[section]
    return filled_section
