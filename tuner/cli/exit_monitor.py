"""Exit monitor: a child process that reports the end of a command which the command cannot report itself.

Ray ends its driver from C++ if the raylet dies, and SIGKILL ends any process: no handler and no exception of Python
follows. The monitor waits for the end of a pipe that the command holds, and does not belong to its terminal or process
group. It appends nothing to the journal, whose search is then `died`, but writes the reason to a file among the logs.

The process runs this file by itself, without the project's packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

Dead = Literal["raylet", "command", "either"]

REPORTED = b"reported\n"
"""Last line to the monitor if the command has reported its end."""
END_S = 5.0
"""Time that the monitor is given to end by itself."""
SHOW_CURSOR = "\x1b[?25h"
"""A live display hides the cursor of the terminal."""


@contextlib.contextmanager
def exit_monitored(screen: int | None, noun: str, record: Path, report: Path, advice: Sequence[str]) -> Iterator[None]:
    """Has the death of this process in the block reported on the file descriptor `screen` (None: not at all).

    `noun` is what the process runs; `advice` are lines on how to go on, printed if there is a file `record`. The reason
    is written to the file `report`, too, which lies among the logs.
    """
    monitor = None if screen is None else _started(screen)
    if monitor is None:
        yield
        return
    assert monitor.stdin is not None
    raylet = _child_named("raylet")
    message = {"noun": noun, "record": str(record), "report": str(report), "advice": [*advice], "raylet": raylet}
    try:
        _send(monitor.stdin, json.dumps({**message, "pid": os.getpid()}).encode() + b"\n")
        yield
    finally:
        _send(monitor.stdin, REPORTED)
        with contextlib.suppress(OSError):
            monitor.stdin.close()
        try:
            monitor.wait(END_S)
        except subprocess.TimeoutExpired:
            monitor.kill()
            monitor.wait()


def _started(screen: int) -> subprocess.Popen[bytes] | None:
    """Starts the monitor; returns None where no process can be started, which is no reason to end the command."""
    command = [sys.executable, "-I", "-S", __file__]
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=screen, start_new_session=True)
    except OSError:
        return None


def _send(pipe: IO[bytes], line: bytes) -> None:
    """Writes a line to the monitor, which somebody may have killed."""
    with contextlib.suppress(OSError):
        pipe.write(line)
        pipe.flush()


def _child_named(name: str) -> int | None:
    """Finds the child process of this one whose program has that name; None where there is none, or no /proc."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            program = Path((entry / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")).name
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if program == name and int(parent) == os.getpid():
                return int(entry.name)
    return None


def main() -> int:
    """Reads what to report from stdin, waits for its end, and reports unless the command has done so."""
    first = sys.stdin.buffer.readline()
    if not first or first == REPORTED:
        return 0
    message = json.loads(first)
    dead = first_to_end(0, message["raylet"])
    if sys.stdin.buffer.read().endswith(REPORTED):
        return 0
    with contextlib.suppress(OSError):  # the record may have been removed
        Path(message["report"]).write_text(reason_of(message, dead) + "\n", encoding="utf-8")
    report = "\n".join(lines_of(message, dead)) + "\n"
    if os.isatty(1):
        report = f"{SHOW_CURSOR}\n{report}"
    with contextlib.suppress(OSError):  # the reader has gone, too
        os.write(1, report.encode(errors="backslashreplace"))
    return 0


def first_to_end(pipe: int, raylet: int | None) -> Dead:
    """Waits until the command or the process `raylet` ends, and returns which did so first: "either" if both have
    ended when this process is awake again."""
    watched = [pipe]
    with contextlib.suppress(OSError, AttributeError):  # it has ended, or this system has no such descriptors
        watched += [os.pidfd_open(raylet)] if raylet is not None else []
    ready, _, _ = select.select(watched, [], [])
    for descriptor in watched[1:]:
        os.close(descriptor)
    if len(ready) == 2:
        return "either"
    return "command" if pipe in ready else "raylet"


def lines_of(message: dict[str, Any], dead: Dead) -> list[str]:
    """Words the report.

    >>> message = {"noun": "search", "pid": 7, "raylet": 8, "record": "/none", "report": "/logs/exit.txt", "advice": []}
    >>> lines_of(message, "raylet")
    ["error: Ray's raylet (process 8) or an agent of it died, and the search with it; the logs are in /logs"]
    """
    advice = message["advice"] if os.path.exists(message["record"]) else []
    logs = os.path.dirname(message["report"])
    return [f"error: {reason_of(message, dead)}; the logs are in {logs}", *advice]


def reason_of(message: dict[str, Any], dead: Dead) -> str:
    """Words what is known of the end of the process. Which signal ended it is not known: its parent alone learns it."""
    noun, raylet = message["noun"], f"Ray's raylet (process {message['raylet']})"
    command = f"the process of the {noun} ({message['pid']})"
    return {
        "raylet": f"{raylet} or an agent of it died, and the {noun} with it",
        "command": f"{command} ended and recorded no reason: killed by a signal, or out of memory",
        "either": f"{command}, or {raylet}, ended and recorded no reason: killed by a signal, or out of memory",
    }[dead]


if __name__ == "__main__":
    raise SystemExit(main())
