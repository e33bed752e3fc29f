"""Registries of what an experiment can name: the project's own entries, and those of plugins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Generic, TypeVar

from trainables.errors import BadInput, Problem
from trainables.plugins import Kind, Plugin, found_plugins

T = TypeVar("T")


class Registry(MutableMapping[str, T], Generic[T]):
    """Names → what they mean: the project's own, and after them those of plugins, which are imported at first use.

    >>> colours = Registry("measures", {"red": 1})
    >>> colours["red"], "blue" in colours
    (1, False)
    """

    def __init__(self, kind: Kind, own: Mapping[str, T]) -> None:
        self._kind = kind
        self._own = dict(own)

    def __getitem__(self, name: str) -> T:
        if name in self._own:
            return self._own[name]
        value: T = self._plugins()[name].value
        return value

    def __setitem__(self, name: str, value: T) -> None:
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in self._plugins() if name not in self._own)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _plugins(self) -> Mapping[str, Plugin]:
        plugins = found_plugins()[self._kind]
        if taken := [
            Problem("", f"a name that is free in {self._kind}", repr(plugin.name), file=plugin.source)
            for plugin in plugins.values()
            if plugin.name in self._own and self._own[plugin.name] is not plugin.value
        ]:
            raise BadInput(taken)
        return plugins
