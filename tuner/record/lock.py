"""One process at a time in a run directory: an advisory lock of the kernel, and who holds it."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trainables.errors import BadInput, Problem

LOCK, MLFLOW_LOCK = "lock", "mlflow.lock"


LOCKS = (LOCK, MLFLOW_LOCK)
"""Files by which a process of this machine has a run, or alone carries it over to MLflow: nothing to be copied."""


@dataclass(frozen=True)
class LockHolder:
    """The process that has a directory. `host` tells its number from that of another machine's process."""

    pid: int
    host: str

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid or 'unknown'} on {self.host}"


PROBE_S = 0.2
"""Within it a process that only asks who has a directory lets go of it."""


def locked(directory: Path) -> IO[str]:
    """Takes the directory for this process until the file is closed.

    The lock is the kernel's: it dies with its process, and on NFS it holds among all machines.

    Raises:
        BadInput: while another process has it, or where the file system has no locks.
    """
    file = (directory / LOCK).open("a+")
    deadline = time.monotonic() + PROBE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(PROBE_S / 10)
                continue
            got = f"{_holder_in(file)} is at work in it (python -m tuner.stop {shlex.quote(str(directory))} ends that)"
            file.close()
            raise BadInput(Problem("", "no other process runs this search", got, file=str(directory))) from None
        except OSError as error:
            file.close()
            raise BadInput(Problem("tracking.directory", "a file system that has locks", f"{error}")) from None
    file.truncate(0)
    file.write(f"{os.getpid()} {socket.gethostname()}\n")
    file.flush()
    return file


def holder_of(directory: Path) -> LockHolder | None:
    """Who has the directory now; None if nobody has, whatever a process that died has left written there."""
    try:
        with (directory / LOCK).open() as file:
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
