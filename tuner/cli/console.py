"""Output of a command: the terminal, which may close at any time and shows text as it is, and a log file for whatever
libraries write."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import IO, TYPE_CHECKING, cast

from tuner.messages.invocation import invocation

if TYPE_CHECKING:
    from rich.console import Console

LABEL = re.compile(r"\[[\d:]+\] | *(?:\S+(?: \S+)*?  +)?")
"""Start of a line before its text: the elapsed time, or indent and label."""
MAX_LABEL_COLUMNS = 20


class Screen(io.TextIOBase):
    """Text stream to the file descriptor `number`, which it closes at its end. It falls silent once that cannot be
    written, as a closed pipe, a closed terminal or a file on a full disk: a search does not end with its display.
    """

    def __init__(self, number: int, encoding: str = "utf-8") -> None:
        self._number = number
        self._encoding = encoding
        self.is_silent = False
        """Whether the reader has gone."""

    def write(self, text: str) -> int:
        """Writes all of `text`, or nothing more from now on."""
        rest = memoryview(text.encode(self._encoding, "backslashreplace"))
        while rest and not self.is_silent:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:  # a pipe or terminal that another program has set to non-blocking
                select.select([], [self._number], [])
            except OSError:
                self.is_silent = True
        return len(text)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of the C class it cannot be set
        return self._encoding

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._number)


@contextlib.contextmanager
def output_redirected_to(log: Path) -> Iterator[IO[str]]:
    """Redirects stdout and stderr (file descriptors 1 and 2) to a file for the block, also of child processes.

    Yields a stream to the original stdout, as a `Screen`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its reader has gone
            stream.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("a") as file, Screen(os.dup(1), sys.stdout.encoding) as screen:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield cast("IO[str]", screen)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)


def open_missing_streams() -> None:
    """Opens stdin, stdout and stderr on the null device where the command was started without them, as by `>&-`.

    Else the next file that is opened, a journal or a lock, would get the number of one, and what is printed.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def silence_unread(number: int = 1) -> bool:
    """Discards what is printed to a file descriptor from now on if its reader has gone. Returns whether it has.

    Python would else try to write what is left once more when it ends, and print a traceback.
    """
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    has_gone = any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
    if has_gone:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
    return has_gone


def print_line(console: Console, line: str) -> None:
    """Prints a line as it is; on a terminal that it is too long for, in lines that end between words."""
    from rich.text import Text

    lines = fitting_lines(line, console.width) if console.is_terminal else [line]
    console.print(Text("\n".join(lines)), soft_wrap=True)


def fitting_lines(line: str, width: int) -> list[str]:
    """Breaks a line between words where it is longer than `width`, the rest indented as the text of its first line is.

    A line with a command stays whole, so that it can be copied; a terminal then breaks it anywhere. So does a path.

    >>> fitting_lines("[0:15] one two three", 14)
    ['[0:15] one two', '       three']
    """
    if len(line) <= width or invocation() in line:
        return [line]
    label = LABEL.match(line)
    indent = 0 if label is None or label.end() > min(MAX_LABEL_COLUMNS, width // 2) else label.end()
    return wrap(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def text_console(file: IO[str] | None = None) -> Console:
    """Makes a console that prints text as it is, to `file` or the standard output. rich would read `[…]` as markup and
    `:dog:` as an emoji, in names of files and classes, too.

    A reader that has closed the pipe is a BrokenPipeError, which `guarded` ends the command at.
    """
    from rich.console import Console

    class TextConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return TextConsole(file=file, highlight=False, markup=False, emoji=False)
