"""Points that a person wrote, `search.first_points`: by short names, and without what the names imply.

A key is that of a dimension, the dotted path of its leaf, or the last part of either where the point leaves only one
dimension that it can mean: in `{method: smile, alpha: 0.2}`, `alpha` is SMILE's, though mixup has one, too. A dimension
within an alternative implies that alternative.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from trainables.errors import Problem, did_you_mean
from tuner.experiment.alternatives import NO_BRANCHES, Branches
from tuner.experiment.dimensions import Dimension, contains, spell
from tuner.experiment.tree import short_names
from tuner.messages.wording import shown


class _Resolved(NamedTuple):
    """What the names of a point mean: name → key; the label of each alternatives' key that is chosen or implied; and
    the names that may mean several dimensions or none."""

    keys: dict[str, str]
    chosen: dict[str, str]
    unclear: dict[str, list[str]]


def by_path(point: Mapping[str, Any], dimensions: Iterable[str], branches: Branches = NO_BRANCHES) -> dict[str, Any]:
    """Renames the keys of `point` to those of `dimensions`, and adds the alternatives that they imply. Other keys stay.

    >>> by_path({"gamma_fe": 0.02}, ["method.gamma_fe"])
    {'method.gamma_fe': 0.02}
    """
    dimensions = list(dimensions)
    resolved = _resolve(point, dimensions, branches)
    renamed = {resolved.keys.get(name, name): value for name, value in point.items()}
    return {key: label for key, label in resolved.chosen.items() if key in dimensions} | renamed


def first_point_problems(
    points: Iterable[Mapping[str, Any]],
    dimensions: Mapping[str, Dimension],
    invalid: Iterable[str] = (),
    branches: Branches = NO_BRANCHES,
) -> Iterator[Problem]:
    """Yields what is wrong with `search.first_points`.

    Any value may be given for the keys in `invalid`, dimensions that have a problem of their own.
    """
    names = short_names([*dimensions, *invalid])
    known = f"one of the dimensions {', '.join(names.values())}" if names else "no key, as nothing is searched"
    for position, point in enumerate(points):
        resolved = _resolve(point, names, branches)
        given: dict[str, str] = {}
        for name, value in point.items():
            where = f"search.first_points[{position}].{name}"
            key = resolved.keys.get(name)
            if key is None:
                candidates = resolved.unclear.get(name, [])
                if any(key in branches.conditions for key in candidates):
                    yield _unclear(where, name, candidates, resolved.chosen, branches)
                else:
                    yield Problem(
                        where, known, f"{shown(name)}{did_you_mean(str(name), _meanings(names, branches), 1)}"
                    )
            elif key in given:
                yield Problem(where, "a dimension that is given once", f"{given[key]!r} and {name!r}")
            elif key in dimensions and not contains(dimensions[key], value):
                yield Problem(where, f"a value of {spell(dimensions[key])}", shown(value))
            elif conflicts := _conflicts(key, resolved.chosen, branches):
                yield Problem(where, f"no dimension of another alternative than {conflicts}", shown(name))
            given |= {} if key is None else {key: name}


def _unclear(where: str, name: str, candidates: list[str], chosen: Mapping[str, str], branches: Branches) -> Problem:
    possible = [key for key in candidates if not _conflicts(key, chosen, branches)]
    if not possible:
        conflicts = ", ".join(dict.fromkeys(_conflicts(key, chosen, branches) for key in candidates))
        return Problem(where, f"no dimension of another alternative than {conflicts}", shown(name))
    return Problem(where, f"one of {', '.join(possible)}, or the alternative besides", shown(name))


def _resolve(point: Mapping[str, Any], dimensions: Iterable[str], branches: Branches) -> _Resolved:
    meanings = _meanings(dimensions, branches)
    keys: dict[str, str] = {}
    chosen: dict[str, str] = {}
    # What chooses alternatives comes first, so that a contradiction is one of what depends on it.
    open_ = sorted(point, key=lambda name: not any(k in branches.alternatives for k in meanings.get(name, ())))
    progress = True
    while progress:
        progress = False
        for name in open_:
            possible = meanings.get(name, [])
            if name in possible:
                possible = [name]
            elif len(possible) > 1:
                possible = [key for key in possible if not _conflicts(key, chosen, branches)]
            if name not in keys and len(possible) == 1:
                (key,) = possible
                keys[name] = key
                required = branches.required(key)
                if key in branches.alternatives and isinstance(point[name], str):
                    required |= {key: point[name]}
                chosen = required | chosen  # what was chosen before stays
                progress = True
    return _Resolved(keys, chosen, {name: meanings.get(name, []) for name in point if name not in keys})


def _conflicts(key: str, chosen: Mapping[str, str], branches: Branches) -> str:
    """The chosen alternative in which the dimension does not exist, in words; "" where there is none."""
    for parent, label in branches.required(key).items():
        if chosen.get(parent, label) != label:
            return f"{parent} = {chosen[parent]}"
    return ""


def _meanings(dimensions: Iterable[str], branches: Branches) -> dict[str, list[str]]:
    """Each name that a person may give a dimension → the keys that it can mean.

    Without alternatives a last part that several keys share means none of them.
    """
    meanings: dict[str, list[str]] = {}
    for key in dimensions:
        path = key if key in branches.alternatives else branches.path_of(key)
        for name in dict.fromkeys((key, path, path.rpartition(".")[2])):
            meanings.setdefault(name, []).append(key)
    return meanings
