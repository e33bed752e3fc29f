"""The terminal of a command that trains: other libraries write to a log file, the command to the screen."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def output_redirected_to(log: Path) -> Iterator[IO[str]]:
    """Sends everything that is written to stdout and stderr, by any library and child process, to a file.

    Gives the real stdout, for what the user is to see.
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
