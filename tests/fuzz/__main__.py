"""Tries commands on input with random mistakes: `make fuzz`, or `python -m tests.fuzz --count 2000`.

A right answer is success, or a refusal with exit code 1 or 2 in a few lines, within seconds. Wrong are tracebacks,
other exit codes, pages of errors, silence and endless work; each is printed with the command that repeats it. The draws
depend on `--seed` and the number of the attempt alone.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.fuzz.attempts import Outcome, attempt_of, outcome_of


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: nothing was wrong; 1: something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="number of attempts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", default=[], metavar="NUMBER", help="attempts to repeat")
    arguments = parser.parse_args(argv)
    counts = fuzz(arguments.only or range(arguments.count), arguments.seed)
    print(", ".join(f"{key} {counts[key]}" for key in ("tried", "refused", "valid", "wrong")))
    return 1 if counts["wrong"] else 0


def fuzz(numbers: Iterable[int], seed: int) -> Counter[str]:
    """Makes the attempts of these numbers, and prints those that are wrong. Returns how many of each verdict."""
    counts: Counter[str] = Counter()
    for number in numbers:
        name, outcome = _tried(number, seed)
        counts.update(("tried", outcome.verdict))
        if outcome.verdict == "wrong":
            repeat = f"python -m tests.fuzz --seed {seed} --only {number}"
            print(f"wrong ({name}): {outcome.why}; repeat with {repeat}", flush=True)
    return counts


def _tried(number: int, seed: int) -> tuple[str, Outcome]:
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where a store and a record go by default
        try:
            attempt = attempt_of(number, seed, Path(folder))
            return attempt.name, outcome_of(attempt)
        finally:
            os.chdir(here)


if __name__ == "__main__":
    raise SystemExit(main())
