"""Output and exit codes of `deploy.submit`: text for people, or one JSON document for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DONE, FAILED, UNREACHABLE, STOPPED = 0, 1, 3, 4
EXIT_CODES = {"FAILED": FAILED, "STOPPED": STOPPED}
"""Exit codes by a job's status; `DONE` for any other."""

JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class Output:
    """Prints text to stdout; with `as_json`, text goes to stderr, and `finish` prints JSON to stdout."""

    as_json: bool

    def say(self, text: str) -> None:
        """Prints a line for a person."""
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Prints text as it is."""
        file = sys.stderr if self.as_json else sys.stdout
        file.write(text)
        file.flush()

    def finish(self, outcome: JsonObject | Sequence[JsonObject]) -> None:
        """Prints the outcome of the command, with `as_json`."""
        if self.as_json:
            print(json.dumps(outcome, indent=2))


def local_time(time_s: float | None) -> str:
    """Unix time as `2026-11-24 18:00`; empty for None."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s)) if time_s else ""
