"""Who watches an experiment while it runs, as far as the running experiment knows."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Observer(Protocol):
    """Receives lines for a person, and what is being done. Events come through the journal's listeners.

    `concurrency` is how many trainings run at once; it is set when that is known, for estimates of the time left.
    """

    concurrency: int

    def __enter__(self) -> Self:
        """Begins a block in which what happens may be shown live."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the block."""
        ...

    def say(self, line: str) -> None:
        """Takes a line that stays."""
        ...

    def enter_phase(self, phase: str) -> None:
        """Takes what is done from now on, in a few words."""
        ...
