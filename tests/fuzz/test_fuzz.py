"""A few of the attempts of `make fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.attempts import Attempt, outcome_of
from tests.marks import MLFLOW_LEAKS

pytestmark = MLFLOW_LEAKS


def test_what_is_wrong_is_refused_in_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    counts = fuzz(range(40), seed=1)
    assert counts["wrong"] == 0, capsys.readouterr().out
    assert counts["refused"] > counts["valid"] > 0


def test_tracebacks_silence_pages_and_other_codes_are_wrong() -> None:
    def says(text: str, code: int) -> int:
        import sys

        sys.stderr.write(text)
        return code

    def fails() -> int:
        raise KeyError("x")

    assert outcome_of(Attempt("", fails)).verdict == "wrong"
    assert outcome_of(Attempt("", lambda: says("", 2))).why == "exit code 2 without a message"
    assert outcome_of(Attempt("", lambda: says("a\n" * 100, 2))).why == "100 lines of error"
    assert outcome_of(Attempt("", lambda: says("", 3))).why == "exit code 3"
    assert outcome_of(Attempt("", lambda: says("error: a\n", 2))).verdict == "refused"
    assert outcome_of(Attempt("", lambda: says("", 0))).verdict == "valid"
