from __future__ import annotations

import pytest

from tests.loops import check_each


def is_even(number: int) -> None:
    assert number % 2 == 0, "is odd"


def test_all_that_fail_are_named() -> None:
    check_each([2, 4], is_even)
    with pytest.raises(AssertionError) as failed:
        check_each([1, 2, 3], is_even, name=lambda number: f"case {number}")
    message = str(failed.value)
    assert message.startswith("2 of 3 fail\n")
    assert "\ncase 1: AssertionError: is odd" in message
    assert "\ncase 3: AssertionError: is odd" in message


def test_no_case_is_no_proof() -> None:
    with pytest.raises(AssertionError):
        check_each([], is_even)
