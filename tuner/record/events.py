"""The events of a journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JOURNAL = "journal.jsonl"


Event = dict[str, Any]
"""A journal line: always `event` (its kind) and `time_s` (Unix time); the rest by kind, see `History.apply`."""


def read_events(path: Path) -> Iterator[Event]:
    """The events in `path`, oldest first. A line cut off by a crash is no event; anything else unreadable raises."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
