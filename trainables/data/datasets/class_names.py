"""Names of classes that a person or a program could not tell apart, or that would break a line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from trainables.errors import Problem

CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
ONE_FORM = "convmv -f utf8 -t utf8 --nfc makes them one"
"""What makes file names alike that look the same: macOS writes `é` as two characters, other systems as one."""


def class_name_problems(names: Sequence[str]) -> Iterator[Problem]:
    """Yields the problems of names with control characters, and of those that are only two forms of one."""
    if odd := [name for name in names if CONTROL_CHARACTERS.search(name)]:
        yield Problem("dataset", "names of classes without control characters", ", ".join(map(repr, odd)))
    first: dict[str, str] = {}
    twice = [name for name in names if first.setdefault(one_form(name), name) != name]
    if twice:
        expected = "one class of a name, in one of its two Unicode forms"
        yield Problem("dataset", expected, f"{', '.join(map(repr, twice))} in both ({ONE_FORM})")


def one_form(name: str) -> str:
    """The name in the form in which Unicode has one character for a letter with its accents.

    >>> len("cafe\u0301"), len(one_form("cafe\u0301"))
    (5, 4)
    """
    return unicodedata.normalize("NFC", name)
