"""What a benchmark ends in: one line a figure, `figure value limit ok|short`; and ratios, taken pair by pair."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import torch

LINE = re.compile(r"^\S+ \S+ \S+ (ok|short|failed)$")


@dataclass(frozen=True)
class Figure:
    """A measured number and what it is held to: at most `limit`, or at least it. A `value` of None failed to come."""

    name: str
    value: float | None
    limit: float
    at_least: bool = False

    @property
    def result(self) -> str:
        """`ok`, `short` of its limit, or `failed`."""
        if self.value is None:
            return "failed"
        return "ok" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "short"

    def __str__(self) -> str:
        value = "-" if self.value is None else f"{self.value:.3f}"
        return f"{self.name} {value} {self.limit:g} {self.result}"

    @classmethod
    def failed(cls, name: str) -> Self:
        """A benchmark that broke off."""
        return cls(name, None, 0.0)


def report(figures: Iterable[Figure]) -> int:
    """Prints the lines. Exit code 1 where a figure is short of its limit, 0 otherwise."""
    figures = list(figures)
    for figure in figures:
        print(figure, flush=True)
    return int(any(figure.result != "ok" for figure in figures))


def lines_in(text: str) -> list[str]:
    """The figures' lines in what a benchmark has printed."""
    return [line for line in text.splitlines() if LINE.match(line)]


def paired_ratio(this: Callable[[], float], other: Callable[[], float], pairs: int) -> float:
    """Median over pairs of this cost by the other's. They take turns, and take turns in being first, so that neither
    what the machine does besides nor what the one leaves to the other favours one."""
    ratios = []
    for number in range(pairs):
        if number % 2:
            below = other()
            ratios.append(this() / below)
        else:
            above = this()
            ratios.append(above / other())
    return statistics.median(ratios)


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of one call, and of what it left a graphics card to do."""
    started_s = time.perf_counter()
    call()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter() - started_s


def skipped(reason: str) -> list[Figure]:
    """No figures, said."""
    print(f"skipped: {reason}", flush=True)
    return []
