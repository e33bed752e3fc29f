"""Watchdog: a time limit of a block that works even if the interpreter hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def time_limit(limit_s: float | None, stacks: Path) -> Iterator[None]:
    """Ends this process if the block takes longer than `limit_s` (None: no limit), and writes all stack traces to
    `stacks`.

    faulthandler's thread does it, which does not need the interpreter's lock.
    """
    if limit_s is None:
        yield
        return
    with contextlib.ExitStack() as opened:
        try:
            stacks.parent.mkdir(parents=True, exist_ok=True)
            file: Any = opened.enter_context(stacks.open("w"))
        except OSError:  # another node's disk, or a full one
            file = sys.__stderr__
        faulthandler.dump_traceback_later(max(limit_s, 0.001), exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            with contextlib.suppress(OSError):
                stacks.unlink(missing_ok=True)
