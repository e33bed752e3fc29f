"""Runs a command with the variables that workers start with, for benchmarks that train in their own process.

    python -m benchmarks.worker_environment COMMAND…

glibc and OpenMP read these variables when a process starts, so that a process cannot set its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tuner.resources.worker_environment import WORKER_ENVIRONMENT


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The command. Replaces this process by the other one; variables that are set already stay."""
    command = list(sys.argv[1:] if argv is None else argv)
    if not command:
        sys.exit(f"usage: {(__doc__ or '').splitlines()[2].strip()}")
    os.execvpe(command[0], command, WORKER_ENVIRONMENT | os.environ)


if __name__ == "__main__":
    main()
