"""Phrases that several messages share: values, durations, parameters, errors in one line."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from trainables.errors import BadInput, cut
from tuner.messages.redaction import reason, without_credentials


def one_line(error: BaseException) -> str:
    """Describes an exception in one redacted line: its class, which a BadInput does not need, and its first line.

    >>> one_line(ValueError("no such layer"))
    'ValueError: no such layer'
    """
    kind, first = type(error).__name__, reason(error)
    if isinstance(error, BadInput):
        return first + (f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else "")
    return kind if first == kind else f"{kind}: {first}"


def age(seconds: float) -> str:
    """Formats an age in its largest unit of which there are at least two: `40 s`, `12 min`, `5 h`, `3 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(0, int(seconds))} s"


def clock(seconds: float) -> str:
    """Formats a duration as on a clock: `0:07`, `12:34`, `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def spell_params(params: Mapping[str, Any]) -> str:
    """Formats parameters in one line, numbers with four digits: `gamma_fe=0.0123 alpha=0.2`."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def cell_name(row: str, column: str, seed: int) -> str:
    """`L² | 15 % | seed 0`: name of a comparison's training, on the screen and in MLflow."""
    return f"{row} | {column} | seed {seed}"


def counted(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def amount(value: float, noun: str) -> str:
    """`0.5 GPUs`, `1 GPU`, `4 GPUs`."""
    return f"{value:g} {noun}" + ("" if value == 1 else "s")


def spell_scores(scores: Sequence[float], at_most: int = 5) -> str:
    """Scores of folds: each of `at_most`, of more the number, smallest and largest.

    >>> spell_scores([0.75, 0.5]), spell_scores([0.5, 0.75] * 3)
    ('0.7500 0.5000', '6 from 0.5000 to 0.7500')
    """
    if len(scores) <= at_most:
        return " ".join(f"{score:.4f}" for score in scores)
    return f"{len(scores)} from {min(scores):.4f} to {max(scores):.4f}"


def share_growth_message(gpus: float) -> str:
    """Returns the message for a trial whose share of a GPU has been raised to `gpus`."""
    return f"out of memory on its share of a GPU: {gpus:.3g} of one from now on"


NOTHING = "nothing"
"""The `got` of a problem whose value is missing or null."""
MAX_CHARACTERS = 200
"""Limit of a value in a message: enough to recognise it in the file."""


def shorten(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Returns `text` without its middle where it is longer than `limit` characters."""
    return cut(text, limit)


def shown(value: Any) -> str:
    """Returns `value` as Python writes it, redacted and shortened, however large or nested it is; None as "nothing".

    >>> shown({"uniform": [0, 1]})
    "{'uniform': [0, 1]}"
    """
    try:
        return NOTHING if value is None else shorten(without_credentials(_SHOW.repr(value)))
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


_SHOW = reprlib.Repr()
"""repr with limits on depth and length: with aliases, a small YAML file can describe a huge tree."""
_SHOW.maxlevel = 4
_SHOW.maxdict = _SHOW.maxlist = _SHOW.maxtuple = _SHOW.maxset = 8
_SHOW.maxstring = _SHOW.maxother = _SHOW.maxlong = MAX_CHARACTERS
_SHOW.fillvalue = "…"
