"""Output of the commands that list something, as lines or JSON, and their arguments."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from tuner.cli.arguments import add_plugin_flag
from tuner.cli.commands import command_parser
from tuner.cli.console import silence_unread
from tuner.messages.invocation import TAKES_PLUGINS


def listing_parser(command: str) -> argparse.ArgumentParser:
    """Builds the argument parser of a command that lists names."""
    parser = command_parser(command)
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")
    if command in TAKES_PLUGINS:
        add_plugin_flag(parser)
    return parser


def print_listing(names: Mapping[str, str] | Sequence[str], as_json: bool) -> None:
    """Prints names, each with its summary if they are a mapping; see `print_lines`."""
    if as_json:
        print_json(names)
    else:
        print_lines(_lines(names))


def print_json(value: object) -> None:
    """Prints plain data as JSON; see `print_lines`."""
    print_lines([json.dumps(value, indent=2, ensure_ascii=False)])


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines. The reader may close the pipe early, as `head` does."""
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        silence_unread()


def _lines(names: Mapping[str, str] | Sequence[str]) -> list[str]:
    if not isinstance(names, Mapping):
        return list(names)
    width = max(map(len, names), default=0)
    return [f"{name:<{width}}  {summary}" for name, summary in names.items()]
