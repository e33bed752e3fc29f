"""State of this process that a connection to Ray changes, and that is restored after it: environment and handlers."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def environment_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Restores the signal handlers and faulthandler that Ray replaces while it connects."""
    had_faulthandler = faulthandler.is_enabled()
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        if in_main_thread:  # in another thread neither Ray nor this may set handlers
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if not had_faulthandler:
            faulthandler.disable()


@contextlib.contextmanager
def hangup_blocked() -> Iterator[None]:
    """Blocks SIGHUP for the block, and for good in the processes that are started in it, which inherit that.

    A closed terminal signals every process of the command. Ray's would die of it before the search has recorded its
    end, and the search with them. This process gets the signal when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
