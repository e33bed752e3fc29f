"""Who watches an experiment while it runs, as far as the running experiment knows."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Receives lines for a person, and what is being done. Events come through the journal's listeners.

    `concurrency` is how many trainings run at once; it is set when that is known, for estimates of the time left.
    """

    concurrency: int

    def say(self, line: str) -> None:
        """Takes a line that stays."""
        ...

    def enter_phase(self, phase: str) -> None:
        """Takes what is done from now on, in a few words."""
        ...
