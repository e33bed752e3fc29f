"""Output of the commands `methods`, `datasets` and `backbones`: names, one a line, or JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence

from tuner.cli.commands import command_parser


def listing_parser(command: str) -> argparse.ArgumentParser:
    """Builds the argument parser of a command that lists names."""
    parser = command_parser(command)
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")
    return parser


def print_listing(names: Mapping[str, str] | Sequence[str], as_json: bool) -> None:
    """Prints names, each with its summary if they are a mapping.

    The reader may close the pipe early, as `head` does.
    """
    text = json.dumps(names, indent=2, ensure_ascii=False) if as_json else "\n".join(_lines(names))
    try:
        print(text, flush=True)
    except BrokenPipeError:
        close_output()


def close_output() -> None:
    """Discards what is left of the standard output, whose reader has gone: else Python would flush it again as it
    ends, and fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(names: Mapping[str, str] | Sequence[str]) -> list[str]:
    if not isinstance(names, Mapping):
        return list(names)
    width = max(map(len, names), default=0)
    return [f"{name:<{width}}  {summary}" for name, summary in names.items()]
