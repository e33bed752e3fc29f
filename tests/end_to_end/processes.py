"""Which processes of a command still run. Each start is marked in its environment, which Ray hands on to its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
NO_WORKERS = ("ray::IDLE", *AGENTS)
"""Names of Ray's processes that train nothing."""


def marked_processes(mark: str) -> dict[int, str]:
    """Command line's beginning of each process with the variable `mark` ("NAME=value" or its beginning), by its id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes():
                    name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    found[int(entry.name)] = name[:120]
    return found


def raylets(mark: str) -> list[int]:
    """Ids of the raylets among the marked processes."""
    return [pid for pid, name in marked_processes(mark).items() if Path(name.split(" ")[0]).name == "raylet"]


def ray_agents(mark: str) -> list[int]:
    """Ids of the raylet's agents among them, without either of which it does not go on."""
    return [pid for pid, name in marked_processes(mark).items() if name.startswith(AGENTS)]


def training_processes(mark: str) -> list[int]:
    """Ids of Ray's workers among them that train something."""
    return [
        pid
        for pid, name in marked_processes(mark).items()
        if name.startswith("ray::") and not name.startswith(NO_WORKERS)
    ]


def came_true(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Waits for `condition`; returns whether it held before the deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
