"""Lock of a run directory: an advisory lock of the kernel, and the process that holds it."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from dataclasses import dataclass
from typing import IO

from trainables.errors import BadInput, Problem
from tuner.messages.invocation import command_line
from tuner.record.directory import RunDirectory


@dataclass(frozen=True)
class LockHolder:
    """Process that holds a directory's lock; `pid` is 0 if unknown."""

    pid: int
    host: str

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid or 'unknown'} on {self.host}"


PROBE_S = 0.2
"""Time within which `holder_of`, in another process, releases its own lock."""


def locked(directory: RunDirectory) -> IO[str]:
    """Locks the directory for this process until the returned file is closed.

    The kernel releases it when the process ends; on NFS it holds among all machines.

    Raises:
        BadInput: if another process holds it, or the file system has no locks.
    """
    file = directory.lock.open("a+")
    deadline = time.monotonic() + PROBE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(PROBE_S / 10)
                continue
            got = f"{_holder_in(file)} ({command_line('stop', directory)} ends it)"
            file.close()
            raise BadInput(Problem("", "no other process at work on this search", got, file=str(directory))) from None
        except OSError as error:
            file.close()
            raise BadInput(Problem("tracking.directory", "a file system that has locks", f"{error}")) from None
    file.truncate(0)
    file.write(f"{os.getpid()} {socket.gethostname()}\n")
    file.flush()
    return file


def holder_of(directory: RunDirectory) -> LockHolder | None:
    """Finds the process that holds the directory's lock.

    Returns None if none does, even if the file names a process, which has died then.
    """
    try:
        with directory.lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder_in(file)
    except OSError:  # no such file, or no permission to read it
        pass
    return None


def last_holder_of(directory: RunDirectory) -> LockHolder | None:
    """Finds the process that was the last to hold the directory's lock; None if the file does not say."""
    try:
        with directory.lock.open() as file:
            holder = _holder_in(file)
    except OSError:
        return None
    return holder if holder.pid else None


def _holder_in(lock: IO[str]) -> LockHolder:
    lock.seek(0)
    pid, _, host = lock.read().strip().partition(" ")
    return LockHolder(int(pid) if pid.isdigit() else 0, host or "an unknown host")
