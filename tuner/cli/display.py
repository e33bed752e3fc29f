"""What a person sees while a command runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import ClassVar, Self

from rich.console import Console, RenderableType
from rich.live import Live

from tuner.messages.wording import clock
from tuner.record.events import Event
from tuner.record.history import History


class Display(ABC):
    """A listener of the journal. Live between its entry and its exit; lines can be said at any time."""

    unit: ClassVar[str]
    """What is kept when the command is cut off, in a word."""

    def __init__(self, console: Console, name: str) -> None:
        self.console = console
        self.name = name
        self.history = History()
        self.phase = ""
        self.started = time.monotonic()
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
    def __call__(self, event: Event, history: History) -> None:
        """Takes in a journal event."""

    @abstractmethod
    def _render(self) -> RenderableType:
        """How things stand, for the live display."""

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(f"[{self.elapsed}] {line}", highlight=False, soft_wrap=True, markup=False)

    def show(self, lines: Iterable[str]) -> None:
        """Lines that stay, as they are; ends the live display."""
        self.__exit__(None, None, None)
        for line in lines:
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def enter_phase(self, phase: str) -> None:
        """What is going on now, in a few words."""
        self.phase = phase
        if not self._live:
            self.say(phase)

    @property
    def elapsed(self) -> str:
        """Time since the display was made."""
        return clock(time.monotonic() - self.started)
