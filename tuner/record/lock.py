"""One process at a time in a run directory: an advisory lock of the kernel, and who holds it."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import time
from dataclasses import dataclass
from typing import IO

from trainables.errors import BadInput, Problem
from tuner.record.directory import RunDirectory


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a directory's lock. `host` tells its number from that of another machine's process."""

    pid: int
    host: str

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid or 'unknown'} on {self.host}"


PROBE_S = 0.2
"""Within it, a process that only asks who holds a directory releases it."""


def locked(directory: RunDirectory) -> IO[str]:
    """Locks the directory for this process until the returned file is closed.

    The lock is the kernel's: it dies with its process, and on NFS it holds among all machines.

    Raises:
        BadInput: while another process holds it, or where the file system has no locks.
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
            got = f"{_holder_in(file)} (python -m tuner.stop {shlex.quote(str(directory))} ends it)"
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
    """Finds the process that holds the directory; None if none does, whatever a process that died left in the file."""
    try:
        with directory.lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder_in(file)
    except OSError:  # no such file, or no permission to see it
        pass
    return None


def _holder_in(lock: IO[str]) -> LockHolder:
    lock.seek(0)
    pid, _, host = lock.read().strip().partition(" ")
    return LockHolder(int(pid) if pid.isdigit() else 0, host or "an unknown host")
