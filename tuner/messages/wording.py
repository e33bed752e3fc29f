"""Phrases that several messages share: times, ages, parameters, first lines of errors."""

from __future__ import annotations

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


def cell_name(row: str, column: str, seed: int) -> str:
    """`L² | 15 % | seed 0`: name of a comparison's training, on the screen and in MLflow."""
    return f"{row} | {column} | seed {seed}"


def counted(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def share_growth_message(gpus: float) -> str:
    """What a person is told where a share has grown to `gpus`."""
    return f"out of memory on its part of a card: {gpus:.3g} of one from now on"
