"""Observer: the interface of a progress display, as a running experiment uses it."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Observer(Protocol):
    """Interface of a progress display. It receives lines and phases; events come through the journal's listeners.

    `concurrency` is the number of trainings that run at once, for estimates of the time left, and `deadline_s` the
    reading of `time.monotonic` at which a budget of minutes ends, None without one; the experiment sets both.
    """

    concurrency: int
    deadline_s: float | None

    def __enter__(self) -> Self:
        """Begins a block in which the display may be live."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the block."""
        ...

    def say(self, line: str) -> None:
        """Shows a line that stays."""
        ...

    def enter_phase(self, phase: str) -> None:
        """Shows what the experiment does from now on, in a few words."""
        ...
