"""What the commands share: exit codes, and a user's mistake said without a traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from trainables.errors import BadInput
from tuner.yaml_file import parse_yaml

FOUND, FAILED, BAD_INPUT = 0, 1, 2


def guarded(command: Callable[[], int]) -> int:
    """Runs a command; a `BadInput` becomes one line a problem on stderr and exit code 2."""
    try:
        return command()
    except BadInput as bad:
        for problem in bad.problems:
            print(f"error: {problem}", file=sys.stderr)
        if len(bad.problems) > 1:
            print(f"{len(bad.problems)} problems; nothing was started", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return FAILED


def key_value(text: str) -> tuple[str, Any]:
    """`data.root=/photos` → its key and its value, read as YAML."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip("."):
        raise argparse.ArgumentTypeError(f"KEY=VALUE must hold, got {text!r}")
    try:
        return key, parse_yaml(value)
    except BadInput as bad:
        raise argparse.ArgumentTypeError(f"{key}: {bad.problems[0].must_hold}, got {value!r}") from None
