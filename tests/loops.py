"""Checks of many generated cases within one test, so that a report has a line for each thing that is proven."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Case = TypeVar("Case")


def check_each(cases: Iterable[Case], check: Callable[[Case], None], name: Callable[[Case], str] = str) -> None:
    """Calls `check` with every case, and fails after the last one with all that failed, each by its name.

    There must be a case: a loop over none proves nothing.
    """
    cases = list(cases)
    assert cases
    failures = []
    for case in cases:
        try:
            check(case)
        except Exception as error:
            failures.append(f"{name(case)}: {type(error).__name__}: {error}")
    assert not failures, f"{len(failures)} of {len(cases)} fail\n" + "\n".join(failures)
