"""Phrases that several messages share: times, ages, parameters, first lines of errors."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from trainables.errors import BadInput


def one_line(error: BaseException) -> str:
    """An exception in one line: its class, and the first line of what it says. A user's mistake needs no class."""
    text = str(error).strip().splitlines()
    if isinstance(error, BadInput):
        return text[0] + (f" (and {len(text) - 1} more)" if len(text) > 1 else "")
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def age(seconds: float) -> str:
    """`40 s`, `12 min`, `5 h`, `3 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(0, int(seconds))} s"


def clock(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def spell_params(params: Mapping[str, Any]) -> str:
    """`gamma_fe=0.0123 alpha=0.2`."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def share_growth_message(gpus: float) -> str:
    """What a person is told where a share has grown to `gpus`."""
    return f"out of memory on its part of a card: {gpus:.3g} of one from now on"


NOTHING = "nothing"
"""What a problem got where a value is missing or null."""
MAX_CHARACTERS = 200
"""Characters of a value in a message: the person knows what they wrote, and only has to recognise it."""


def shorten(text: str, limit: int = MAX_CHARACTERS) -> str:
    """`text` with its middle left out where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    kept = limit // 2
    return f"{text[:kept]} … {text[-kept:]}"


def shown(value: Any) -> str:
    """Shows `value` as Python writes it, in at most about `MAX_CHARACTERS`, however large or nested it is.

    >>> shown({"uniform": [0, 1]})
    "{'uniform': [0, 1]}"
    """
    try:
        return NOTHING if value is None else shorten(_SHOW.repr(value))
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


_SHOW = reprlib.Repr()
"""repr with limits on depth and length: with aliases, a small YAML file can describe a huge tree."""
_SHOW.maxlevel = 4
_SHOW.maxdict = _SHOW.maxlist = _SHOW.maxtuple = _SHOW.maxset = 8
_SHOW.maxstring = _SHOW.maxother = _SHOW.maxlong = MAX_CHARACTERS
_SHOW.fillvalue = "…"
