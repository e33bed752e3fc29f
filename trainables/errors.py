"""What a user can get wrong, said in full: where, what must hold, and what came."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Problem:
    """One mistake in the input: where it is, what was expected there, and what was found.

    `where` is the dotted key (`data.root`), or a flag; `expected` and `got` are noun phrases; `file` and `line` are the
    place in the experiment file, filled in by the code that read it. `line` counts from 1; 0 where it is not known.

    >>> str(Problem("method.gamma_fe", "a number above 0", "-1", file="smile.yaml", line=12))
    'smile.yaml:12: method.gamma_fe: expected a number above 0, got -1'
    """

    where: str
    expected: str
    got: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        file = f"{self.file}:{self.line}" if self.file and self.line else self.file
        place = ": ".join(filter(None, (file, self.where)))
        return (
            f"{place}: expected {self.expected}, got {self.got}"
            if place
            else f"expected {self.expected}, got {self.got}"
        )


class BadInput(Exception):
    """The user's input cannot be run. Carries every problem found, not only the first."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[BadInput], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)  # the default would rebuild from the message and lose the parts

    def under(self, prefix: str) -> BadInput:
        """The same problems, with their keys below `prefix`."""
        return BadInput(replace(p, where=f"{prefix}.{p.where}" if p.where else prefix) for p in self.problems)

    def in_file(self, file: str) -> BadInput:
        """The same problems, said of `file`."""
        return BadInput(replace(p, file=p.file or file) for p in self.problems)


class Diverged(Exception):
    """A loss term or a gradient stopped being finite. `step` is the first optimiser step (from 1) where it did."""

    def __init__(self, step: int, term: str) -> None:
        self.step = step
        self.term = term
        super().__init__(f"diverged: {term} is not finite at step {step}")

    def __reduce__(self) -> tuple[type[Diverged], tuple[int, str]]:
        return type(self), (self.step, self.term)


def nearest(word: str, known: Iterable[str], count: int = 3) -> Sequence[str]:
    """The known words that look most like `word`, best first; for "did you mean"."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[m] for m in difflib.get_close_matches(word.lower(), by_lower, n=count, cutoff=0.5)]


def did_you_mean(word: str, known: Iterable[str], count: int = 3) -> str:
    """A hint to append to a problem's `got`: at most `count` of the known words most like `word`; "" where none is.

    >>> did_you_mean("gama", ["alpha", "gamma"])
    " (did you mean 'gamma'?)"
    >>> did_you_mean("momentum", ["alpha", "gamma"])
    ''
    """
    similar = nearest(word, known, count)
    return f" (did you mean {' or '.join(map(repr, similar))}?)" if similar else ""
