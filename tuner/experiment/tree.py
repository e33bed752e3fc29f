"""Nested mappings and dotted paths (`compare.rows[2].method.alpha`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATHS = {"data": "root", "backbone": "checkpoint"}
"""Section → its key that names a file or folder."""


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Dotted path → the name that is displayed: its last part, or the whole path where two end alike.

    >>> short_names(["method.alpha", "method.name", "backbone.name"])
    {'method.alpha': 'alpha', 'method.name': 'method.name', 'backbone.name': 'backbone.name'}
    """
    paths = list(paths)
    ends = [path.rsplit(".", 1)[-1] for path in paths]
    return {path: end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)}


def by_short_name(params: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """Replaces dotted paths by the names that are displayed; `names` are those of `short_names`.

    >>> by_short_name({"method.alpha": 0.2}, short_names(["method.alpha"]))
    {'alpha': 0.2}
    """
    return {names.get(path, path): value for path, value in params.items()}


def set_leaf(tree: dict[str, Any], path: str, value: Any) -> None:
    """Sets the leaf at a dotted path, making the mappings on the way; those that there are already are copied."""
    *parents, leaf = path.split(".")
    for parent in parents:
        inner = tree.get(parent)
        tree[parent] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        tree = inner
    tree[leaf] = value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings → dotted paths and their leaves.

    >>> flatten({"method": {"name": "l2", "alpha": 0.2}})
    {'method.name': 'l2', 'method.alpha': 0.2}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def absolute_path(section: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a section whose path is absolute: it is relative to the command's working folder, and trials
    run in others. What is no path stays as it is: the section's own check refuses it."""
    key = PATHS.get(section)
    path = tree.get(key) if key is not None else None
    if key is None or not isinstance(path, str | Path):
        return dict(tree)
    try:
        return {**tree, key: str(Path(path).expanduser().resolve())}
    except (OSError, RuntimeError, ValueError):
        return dict(tree)


def plain(value: Any) -> Any:
    """Copies `value` with its tuples as lists, for YAML."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def enclosing(path: str) -> Iterator[str]:
    """Yields `path` and the paths that contain it, innermost first.

    >>> list(enclosing("compare.rows[2].method"))
    ['compare.rows[2].method', 'compare.rows[2]', 'compare.rows', 'compare']
    """
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]


def is_within(path: str, outer: str) -> bool:
    """Whether `path` is `outer` or below it."""
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))
