"""Progress display of a command: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import ClassVar, Generic, Self, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

from tuner.messages.wording import clock
from tuner.record.events import Event
from tuner.record.history import ComparisonHistory, SearchHistory

H = TypeVar("H", SearchHistory, ComparisonHistory)


class Display(ABC, Generic[H]):
    """Listener of a journal that shows its progress: live as a context manager; lines can be said at any time.

        with SearchProgress(console, space, num_trials=20, concurrency=2) as progress:
            journal.listeners.append(progress)
            progress.enter_phase("searching")

    `history` is the one before the first event.
    """

    unit: ClassVar[str]
    """What is kept when the command is interrupted, as one word."""

    def __init__(self, console: Console, name: str, history: H) -> None:
        self.console = console
        self.name = name
        self.history: H = history
        self.phase = ""
        self._started_s = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._render, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    @abstractmethod
    def __call__(self, event: Event, history: H) -> None:
        """Takes in an event of the journal, and the history that includes it."""

    @abstractmethod
    def _render(self) -> RenderableType:
        """Renders the live display."""

    def say(self, line: str) -> None:
        """Prints a line that stays, after the time since the command began."""
        self.console.print(f"[{self.elapsed}] {line}", highlight=False, soft_wrap=True, markup=False)

    def show(self, lines: Iterable[str]) -> None:
        """Ends the live display and prints lines as they are."""
        self.__exit__(None, None, None)
        for line in lines:
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def enter_phase(self, phase: str) -> None:
        """Shows what the command does from now on, in a few words."""
        self.phase = phase
        if not self._live:
            self.say(phase)

    @property
    def elapsed(self) -> str:
        """Time since the display was made, as `0:07`."""
        return clock(time.monotonic() - self._started_s)
