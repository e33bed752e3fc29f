"""Output of a command: the terminal, which shows text as it is, and a log file for whatever libraries write."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def output_redirected_to(log: Path) -> Iterator[IO[str]]:
    """Redirects stdout and stderr (file descriptors 1 and 2) to a file for the block, also of child processes.

    Yields a stream to the original stdout.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("a") as file, os.fdopen(os.dup(1), "w", buffering=1) as screen:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)


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
