"""`extends`: an experiment file laid over others, so that it says only what differs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from trainables.errors import BadInput, Problem
from tuner.experiment.dimensions import DIMENSIONS
from tuner.experiment.strict_yaml import read_yaml

EXTENDS = "extends"


class Layer(NamedTuple):
    """What one file says itself, without `extends`."""

    file: Path
    tree: dict[str, Any]


def read_extended(file: Path) -> dict[str, Any]:
    """The mapping in `file`, laid over those of the files that its `extends` names, each over the one before it.

    Names are relative to the file that they stand in. Raises BadInput.
    """
    tree: dict[str, Any] = {}
    for layer in layers(file):
        tree = deep_merge(tree, layer.tree)
    return tree


def layers(file: Path, above: tuple[Path, ...] = ()) -> Iterator[Layer]:
    """`file` and all that it extends, in the order in which they are laid over each other; `above` led here."""
    tree = read_yaml(file)
    for base in _bases(tree.pop(EXTENDS, []), file, (*above, file)):
        yield from layers(base, (*above, file))
    yield Layer(file, tree)


def deep_merge(base: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `tree` says: sections key by key, everything else, dimensions and lists too, as a whole."""
    merged = dict(base)
    for key, value in tree.items():
        below = base.get(key)
        merged[key] = deep_merge(below, value) if _is_section(below) and _is_section(value) else value
    return merged


@contextmanager
def locate_problems(file: Path, overridden: Collection[str] = ()) -> Iterator[None]:
    """Lets a problem of `file` name the file of its chain that the key stands in, unless the key was `overridden`."""
    try:
        yield
    except BadInput as bad:
        chain = _chain(file)
        raise BadInput(
            problem
            if problem.file != str(file) or problem.where in overridden
            else replace(problem, file=str(_home(problem.where, chain)))
            for problem in bad.problems
        ) from bad


def _bases(extends: Any, file: Path, chain: tuple[Path, ...]) -> list[Path]:
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput(Problem(EXTENDS, "must be a file or a list of files", repr(extends), file=str(file)))
    bases = [_readable((file.parent / name).resolve()) for name in names]
    problems = [_base_problem(name, base, chain) for name, base in zip(names, bases, strict=True)]
    if found := [problem for problem in problems if problem is not None]:
        raise BadInput(found).in_file(str(file))
    return bases


def _base_problem(name: str, base: Path, chain: tuple[Path, ...]) -> Problem | None:
    if not base.is_file():
        return Problem(EXTENDS, "must name files that exist, relative to this one", repr(name))
    if base.resolve() in (file.resolve() for file in chain):
        return Problem(EXTENDS, "must not lead back to a file", " → ".join(map(str, (*chain, base))))
    return None


def _readable(path: Path) -> Path:
    """As a person would name it: relative to the working folder where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _is_section(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and not (len(value) == 1 and next(iter(value)) in DIMENSIONS)


def _chain(file: Path) -> list[Layer]:
    """All layers, or what can be said where one of them is what is wrong."""
    try:
        return list(layers(file))
    except BadInput:
        return [Layer(file, {})]


def _home(where: str, chain: list[Layer]) -> Path:
    """The file that says most of the key `where`; of several, the one whose word counts."""
    deepest: Layer = max(reversed(chain), key=lambda layer: _depth(where, layer.tree))
    return deepest.file


def _depth(where: str, tree: Any) -> int:
    """How many parts of `where` are keys of `tree`, one below the other."""
    depth = 0
    for part in where.split("."):
        key = part.partition("[")[0]
        if not isinstance(tree, Mapping) or key not in tree:
            break
        tree, depth = tree[key], depth + 1
    return depth
