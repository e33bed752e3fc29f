"""Stops a running search or comparison of this machine as Ctrl-C would: `python -m tuner.stop NAME`."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import BadInput, Problem
from tuner.cli.arguments import FAILED, SUCCEEDED, add_directory_flag, guarded
from tuner.cli.commands import command_parser
from tuner.messages.invocation import command_line
from tuner.record.find import find_run

if TYPE_CHECKING:
    from tuner.record.directory import RunDirectory
    from tuner.record.lock import LockHolder

POLL_S = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: the run has stopped; 1: it has not yet; 2: there is no such running run."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("stop")
    add = parser.add_argument
    add("run", metavar="NAME", help="its name, NAME/RUN, or its experiment directory")
    add_directory_flag(parser)
    add("--timeout-s", type=float, default=90.0, metavar="S", help="how long to wait for its end (default: 90)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Stops the run that the arguments name. Raises as `find_run` and `stop`."""
    return stop(find_run(arguments.run, arguments.directory, "NAME"), arguments.timeout_s)


def stop(directory: RunDirectory, timeout_s: float) -> int:
    """Sends SIGTERM to the process that runs the experiment in `directory`, waits for its end, and prints what is kept.

    Raises:
        BadInput: if no process of this machine holds the directory.
    """
    from tuner.record.lock import holder_of
    from tuner.record.summary import summary_of

    holder = holder_of(directory)
    if holder is None:
        got = f"one that is not running ({summary_of(directory).state})"
        raise BadInput(Problem("", "a running search or comparison", got, file=str(directory)))
    if not holder.is_here or not _has_open(holder, directory.lock):
        raise BadInput(Problem("", "a search of this machine", str(holder), file=str(directory)))
    os.kill(holder.pid, signal.SIGTERM)
    print(f"sent SIGTERM to {holder}", flush=True)
    deadline = time.monotonic() + timeout_s
    while holder_of(directory) == holder:
        if time.monotonic() > deadline:
            print(f"it still runs after {timeout_s:g} s; kill -9 {holder.pid} would lose only the folds in training")
            return FAILED
        time.sleep(POLL_S)
    summary = summary_of(directory)
    kept = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count) or "nothing yet"
    print(f"{directory.full_name} has ended ({summary.state}); kept in {directory}:")
    print(f"  {kept}; every finished {'fold' if summary.kind == 'search' else 'training'}")
    if summary.state != "finished":
        command = "compare" if summary.kind == "comparison" else "search"
        print(f"go on with: {command_line(command, '--resume', directory)}")
    return SUCCEEDED


def _has_open(holder: LockHolder, file: Path) -> bool:
    """Whether that process has the lock file open. Its pid may be another process's by now."""
    import psutil

    try:
        opened = psutil.Process(holder.pid).open_files()
        return any(os.path.samefile(each.path, file) for each in opened if os.path.exists(each.path))
    except (OSError, psutil.Error):
        return False


if __name__ == "__main__":
    raise SystemExit(main())
