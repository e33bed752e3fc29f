"""Errors of a user's input, with their places, and of a training."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MAX_PROBLEMS = 20
"""Problems in the message of one error: a file that is no experiment at all can have thousands."""
MAX_PART_CHARACTERS = 1500
"""Characters of what is expected, or was found, in a message."""
MAX_PLACE_CHARACTERS = 200
"""Characters of a place in a message. A key may be as long as the file."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that would break a line, move the cursor or be no text."""


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
        place = "".join(f"{part}: " for part in (file, cut(self.where, MAX_PLACE_CHARACTERS)) if part)
        expected, got = (cut(part, MAX_PART_CHARACTERS) for part in (self.expected, self.got))
        return in_one_line(f"{place}expected {expected}, got {got}")


class BadInput(Exception):
    """Error for input that cannot be run, with every problem found. Its message names the first `MAX_PROBLEMS`."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        named = [str(problem) for problem in self.problems[:MAX_PROBLEMS]]
        num_more = len(self.problems) - len(named)
        super().__init__("\n".join([*named, *([f"… and {num_more} more"] if num_more else [])]))

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


def in_one_line(text: str) -> str:
    r"""Returns `text` with its unprintable characters, line ends among them, as Python writes them.

    >>> in_one_line("a\0b")
    'a\\x00b'
    """
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)


def cut(text: str, limit: int) -> str:
    """Returns `text` without its middle where it is longer than `limit` characters.

    >>> cut("abcdefgh", 4)
    'ab … gh'
    """
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-(limit // 2) :]}"


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
    if len(word) > MAX_PLACE_CHARACTERS:  # similar to no name, and slow to compare
        return []
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
