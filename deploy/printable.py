"""Check of texts that become lines of scripts and manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainables.errors import Problem


def unprintable_texts(value: Any, *keys: str) -> Iterator[Problem]:
    """Yields every text that has a line's end or another unprintable character, also among keys: it would become a line
    of a script or of a manifest."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from unprintable_texts(str(key), *keys)
            yield from unprintable_texts(inner, *keys, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from unprintable_texts(inner, *keys)
    elif isinstance(value, str) and not value.isprintable():
        yield Problem(".".join(keys), "text of printable characters, without line ends", repr(value))
