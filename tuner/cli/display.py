"""Progress display: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import ClassVar, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar

from tuner.cli.console import print_line
from tuner.messages.wording import clock

ECHO_COLUMNS = 4
"""Columns that the last line of a live display leaves free."""


class Display(ABC):
    """Progress display of an experiment: an `Observer`, live on a terminal within its `with` block.

    Its subclasses are listeners of a journal, too:

        with SearchProgress(console, space, num_trials=20, concurrency=2) as progress:
            journal.listeners.append(progress)
            progress.enter_phase("searching")

    `concurrency` is the number of trainings that run at once, from which the time left is estimated; `deadline_s` is
    when a budget of minutes ends. Callbacks can
    show the same elsewhere: `on_line` is called with each line, `on_change` whenever the result of `render` may change.
    """

    unit: ClassVar[str]
    """Noun for what is kept if the command is interrupted."""

    def __init__(self, console: Console, name: str, concurrency: int) -> None:
        self.console = console
        self.name = name
        self.concurrency = concurrency
        self.deadline_s: float | None = None
        self.phase = ""
        self.on_line: Callable[[str], None] = lambda line: None
        self.on_change: Callable[[], None] = lambda: None
        self._started_s = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            # Transient: what has ended leaves no half-true frame above the lines that follow.
            self._live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @abstractmethod
    def render(self) -> RenderableType:
        """Renders the live display."""

    @abstractmethod
    def summary(self) -> str:
        """Returns what is done and what is left, in one line."""

    def with_summary(self, line: str) -> str:
        """Adds the summary to a line where there is no live display, which has it below all lines."""
        return line if self._live else f"{line}  | {self.summary()}"

    def bar(self, total: float, completed: float) -> ProgressBar:
        """Makes the bar in the last line of the live display. It leaves room for the `^C` that a terminal echoes: in a
        line that is full this would begin another, and the display would be erased one line too low."""
        return ProgressBar(total=total, completed=completed, width=max(1, self.console.width - ECHO_COLUMNS))

    def say(self, line: str) -> None:
        """Prints a line that stays, preceded by the elapsed time."""
        line = f"[{self.elapsed}] {line}"
        self._print(line)
        self.on_line(line)

    def show(self, lines: Iterable[str]) -> None:
        """Ends the live display and prints lines as they are."""
        self.end()
        for line in lines:
            self._print(line)

    def end(self) -> None:
        """Removes the live display, so that lines said from now on are the last on the screen."""
        if self._live:
            self._live.stop()
            self._live = None

    def enter_phase(self, phase: str) -> None:
        """Shows what the command does from now on, in a few words."""
        self.phase = phase
        if not self._live:
            self.say(phase)
        self.on_change()

    @property
    def elapsed(self) -> str:
        """Time since the display was created, as `0:07`."""
        return clock(time.monotonic() - self._started_s)

    def _print(self, line: str) -> None:
        print_line(self.console, line)
