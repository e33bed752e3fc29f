"""`extends`: an experiment file laid over others, so that it says only what differs; and where each key is said."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from trainables.errors import BadInput, Problem
from tuner.experiment.alternatives import CHOICE, NAME, are_alternatives, are_named, without_leaf
from tuner.experiment.dimensions import DIMENSIONS
from tuner.experiment.strict_yaml import read_document
from tuner.experiment.tree import enclosing, is_within
from tuner.messages.wording import shown

EXTENDS = "extends"
RULE = "rule"
"""Key of a section whose other keys are those of its rule: `search.racing`."""


class Layer(NamedTuple):
    """What one file says itself, without `extends`: its tree, and the line of each dotted path."""

    file: Path
    tree: dict[str, Any]
    lines: dict[str, int]


class Place(NamedTuple):
    """File and line of a key."""

    file: Path
    line: int


def read_extended(file: Path) -> dict[str, Any]:
    """Returns the mapping in `file`, laid over those of the files that its `extends` names, each over the one before.

    Names are relative to the file that they stand in. Raises BadInput.
    """
    tree: dict[str, Any] = {}
    for layer in layers(file):
        tree = deep_merge(tree, layer.tree)
    return tree


def layers(file: Path, above: tuple[Path, ...] = ()) -> Iterator[Layer]:
    """Yields `file` and all that it extends, in the order in which they are merged; `above` led here."""
    tree, lines = read_document(file)
    for base in _bases(tree.pop(EXTENDS, []), file, lines.get(EXTENDS, 0), (*above, file)):
        yield from layers(base, (*above, file))
    yield Layer(file, tree, lines)


def deep_merge(base: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Merges `tree` into `base`: sections key by key; everything else, dimensions and lists too, replaces as a whole.

    A section with alternatives by `name` replaces, and one by `name` or `choice` replaces it, as a whole. Where
    alternatives have labels alone, the later file counts for a key that one file has within them and one beside them. A
    section with another `rule` replaces as a whole.

    >>> deep_merge({"a": {"x": 1, "y": [1, 2]}}, {"a": {"y": [3]}})
    {'a': {'x': 1, 'y': [3]}}
    """
    written = (
        {leaf for each in tree[CHOICE] if isinstance(each, Mapping) for leaf in each} if are_alternatives(tree) else ()
    )
    merged = {key: value for key, value in base.items() if key not in written}
    for key in tree.keys() - {CHOICE}:
        merged = without_leaf(merged, str(key))
    for key, value in tree.items():
        below = base.get(key)
        merged[key] = deep_merge(below, value) if _is_merged(below, value) else value
    return merged


@contextmanager
def locate_problems(
    file: Path, overridden: Collection[str] = (), flags: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Gives each problem that is raised about `file` its place.

    A problem gets the file and line of the key's last definition in the chain of `extends`; a missing key gets those of
    its section. A problem of a leaf that was overridden from the command line names the flag in place of a file.

    Args:
        overridden: Dotted paths of the leaves that do not come from the file.
        flags: Dotted path → the flag that overrides it, where that is not `--set`.
    """
    try:
        yield
    except BadInput as bad:
        places = _places(file)
        by_flag = {path: f"--set {path}" for path in overridden} | dict(flags or {})
        located = dict.fromkeys(_located(p, places, by_flag) if p.file == str(file) else p for p in bad.problems)
        raise BadInput(sorted(located, key=lambda problem: (problem.file, problem.line))) from bad


def _located(problem: Problem, places: Mapping[str, Place], flags: Mapping[str, str]) -> Problem:
    where = problem.where
    if problem.line or not where:
        return problem  # of the file's text, whatever is overridden
    for path, flag in flags.items():
        # A section that only the flag mentions is its mistake, too.
        if is_within(where, path) or (is_within(path, where) and where not in places):
            return replace(problem, where=flag + where[len(path) :], file="")
    place = next((places[path] for path in enclosing(where) if path in places), None)
    return problem if place is None else replace(problem, file=str(place.file), line=place.line)


def _places(file: Path) -> dict[str, Place]:
    """Dotted path → where the definition stands that counts, in `file` or in one that it extends."""
    places: dict[str, Place] = {}
    tree: dict[str, Any] = {}
    try:
        for layer in layers(file):
            replaced = set(_replaced(tree, layer.tree))
            places = {path: place for path, place in places.items() if replaced.isdisjoint(enclosing(path))}
            places |= {path: Place(layer.file, line) for path, line in layer.lines.items()}
            tree = deep_merge(tree, layer.tree)
    except BadInput:  # a file of the chain is what is wrong: the problem names it already
        return {}
    return places


def _replaced(base: Mapping[str, Any], tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields the paths whose values `deep_merge` replaces as a whole."""
    for key, value in tree.items():
        below = base.get(key)
        if _is_merged(below, value):
            yield from _replaced(below, value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _bases(extends: Any, file: Path, line: int, chain: tuple[Path, ...]) -> list[Path]:
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput(Problem(EXTENDS, "a file or a list of files", shown(extends), str(file), line))
    bases = [_readable((file.parent / name).resolve()) for name in names]
    problems = [_base_problem(name, base, chain) for name, base in zip(names, bases, strict=True)]
    if found := [replace(problem, file=str(file), line=line) for problem in problems if problem is not None]:
        raise BadInput(found)
    return bases


def _base_problem(name: str, base: Path, chain: tuple[Path, ...]) -> Problem | None:
    if not os.path.isfile(base):  # Path.is_file raises for a name that is too long
        return Problem(EXTENDS, "a file that exists, relative to this one", shown(name))
    if base.resolve() in (file.resolve() for file in chain):
        return Problem(EXTENDS, "files that do not lead back to this one", " → ".join(map(str, (*chain, base))))
    return None


def _readable(path: Path) -> Path:
    """As a person would name it: relative to the working folder where it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _is_merged(below: Any, value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether the section `value` is merged into `below`, which is then a section, too."""
    if not _is_section(below) or not _is_section(value) or are_named(value):
        return False
    if value.get(RULE, below.get(RULE)) != below.get(RULE):
        return False
    return not are_named(below) or not {NAME, CHOICE} & value.keys()


def _is_section(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return are_alternatives(value) or (
        isinstance(value, Mapping) and not (len(value) == 1 and next(iter(value)) in DIMENSIONS)
    )
