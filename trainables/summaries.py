"""One-line summaries, taken from docstrings, for the lists that a user reads."""

from __future__ import annotations

import inspect
import re

_SENTENCE_END = re.compile(r"\.(?=\s|$)")


def first_sentence(documented: object) -> str:
    """The first sentence of the docstring of a class or function, on one line and without its full stop.

    Raises ValueError where there is no docstring: what a user can choose has to be described.

    >>> first_sentence(first_sentence)
    'The first sentence of the docstring of a class or function, on one line and without its full stop'
    """
    docstring = inspect.getdoc(documented)
    if not docstring:
        raise ValueError(f"a docstring, got none for {documented!r}")
    return _SENTENCE_END.split(" ".join(docstring.split()), maxsplit=1)[0]
