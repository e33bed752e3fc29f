from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from benchmarks.contestants import contestant


def reading(name: str) -> Callable[[int], float]:
    """Works by giving a number of its environment, times the amount."""
    return lambda amount: amount * float(os.environ.get(name, "nan"))


def failing() -> Callable[[int], float]:
    raise SystemExit(0)


def test_each_has_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBER", "2")
    with contestant(reading, "NUMBER", environment={"NUMBER": "3"}) as one:
        assert os.environ["NUMBER"] == "2"
        one.begin(2)
        assert one.ended() == 6.0
    with contestant(reading, "NUMBER", without=("NUMBER",)) as other:
        assert other.seconds(5) != other.seconds(5)  # nan


def test_one_that_does_not_start_is_noticed() -> None:
    with pytest.raises(EOFError), contestant(failing):
        pass
