"""Errors of a user's input, with their places, and of a training."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Problem:
    """One mistake in the input: its place, the value expected there, and the value found.

    `where` is the dotted key (`data.root`), or a flag; `expected` and `got` are noun phrases; `file` and `line` are the
    place in the experiment file, filled in by the code that read it. `line` counts from 1; 0 if it is unknown.

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
    """Error for input that cannot be run, with every problem found."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[BadInput], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)  # the default would rebuild it from the message

    def under(self, prefix: str) -> BadInput:
        """The same problems with their keys below `prefix`, but for those with a file: these are about another file."""
        return BadInput(
            p if p.file else replace(p, where=f"{prefix}.{p.where}" if p.where else prefix) for p in self.problems
        )

    def in_file(self, file: str) -> BadInput:
        """The same problems with `file` as their file, unless they have one."""
        return BadInput(replace(p, file=p.file or file) for p in self.problems)


class TrainingFailed(Exception):
    """Base of the errors for a training that ends without a usable network. It is reproducible for its settings."""


class Diverged(TrainingFailed):
    """Error for a training with a loss term or gradient that is not finite, first at optimiser step `step` (from 1)."""

    def __init__(self, step: int, term: str) -> None:
        self.step = step
        self.term = term
        super().__init__(f"diverged: {term} is not finite at step {step}")

    def __reduce__(self) -> tuple[type[Diverged], tuple[int, str]]:
        return type(self), (self.step, self.term)


class Collapsed(TrainingFailed):
    """Error for a trained network with the same prediction for all of `num_examples`, as after its features died.

    Nothing in its training was infinite, and its top-1 accuracy is that of guessing one class.
    """

    def __init__(self, num_examples: int) -> None:
        self.num_examples = num_examples
        super().__init__(f"collapsed: the network predicts the same for all {num_examples} examples")

    def __reduce__(self) -> tuple[type[Collapsed], tuple[int]]:
        return type(self), (self.num_examples,)


def first_line(error: BaseException, length: int = 200) -> str:
    """Type and first line of an error's message, at most `length` characters of it.

    >>> first_line(ValueError("no such key\\nin a long traceback"))
    'ValueError: no such key'
    """
    line = next(iter(str(error).strip().splitlines()), "").strip()
    return f"{type(error).__name__}: {line[:length]}" if line else type(error).__name__


def os_reason(error: OSError) -> str:
    """Reason of an error of the operating system, without its number and path.

    >>> os_reason(FileNotFoundError(2, "No such file or directory", "smile.yaml"))
    'no such file or directory'
    """
    return (error.strerror or str(error)).lower()


def nearest(word: str, known: Iterable[str], count: int = 3) -> Sequence[str]:
    """The known words most similar to `word`, ignoring case, best first.

    >>> nearest("gama_fe", ["alpha", "gamma_fc", "gamma_fe"])
    ['gamma_fe', 'gamma_fc']
    """
    by_lower = {name.lower(): name for name in known}
    return [by_lower[m] for m in difflib.get_close_matches(word.lower(), by_lower, n=count, cutoff=0.5)]


def did_you_mean(word: str, known: Iterable[str], count: int = 3) -> str:
    """Hint to append to a problem's `got`: at most `count` of the known words most similar to `word`; "" if none is.

    >>> did_you_mean("gama", ["alpha", "gamma"])
    " (did you mean 'gamma'?)"
    >>> did_you_mean("momentum", ["alpha", "gamma"])
    ''
    """
    return hint_of(nearest(word, known, count))


def hint_of(similar: Sequence[str]) -> str:
    """The hint of `did_you_mean`, for words that are known to be similar."""
    return f" (did you mean {' or '.join(map(repr, similar))}?)" if similar else ""
