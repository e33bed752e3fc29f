from __future__ import annotations

from typing import Any

import pytest

from trainables.errors import BadInput, Problem
from tuner.messages.wording import MAX_CHARACTERS, age, clock, one_line, shorten, shown, spell_params


def test_one_line_of_an_error() -> None:
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(MemoryError()) == "MemoryError"
    problem = Problem("a", "b", "c")
    assert one_line(BadInput(problem)) == "a: expected b, got c"
    assert one_line(BadInput([problem, problem, problem])) == "a: expected b, got c (and 2 more)"


@pytest.mark.parametrize(
    ("seconds", "spelt"), [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (2 * 86400 + 5, "2 d")]
)
def test_ages(seconds: float, spelt: str) -> None:
    assert age(seconds) == spelt


@pytest.mark.parametrize(("seconds", "spelt"), [(7, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_clocks(seconds: float, spelt: str) -> None:
    assert clock(seconds) == spelt


def test_parameters() -> None:
    assert spell_params({"gamma_fe": 0.0123456, "num_steps": 3, "name": "l2"}) == "gamma_fe=0.01235 num_steps=3 name=l2"


def test_shorten_keeps_both_ends() -> None:
    assert shorten("short") == "short"
    assert shorten("a" * 50 + "b" * 50, limit=10) == "aaaaa … bbbbb"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), (0, "0"), ("a", "'a'"), ([0.1, 1], "[0.1, 1]"), ({"uniform": [0, 1]}, "{'uniform': [0, 1]}")],
)
def test_shown(value: Any, text: str) -> None:
    assert shown(value) == text


def test_huge_values_are_shown_in_short_and_at_once() -> None:
    nested: list[Any] = ["x"]
    for _ in range(40):
        nested = [nested] * 10  # 10^40 leaves
    for value in (nested, "x" * 10**7, list(range(10**6)), {str(i): i for i in range(10**5)}, 10**5000):
        assert len(shown(value)) <= MAX_CHARACTERS + 3
