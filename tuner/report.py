"""Writes a search's report as one HTML page: `python -m tuner.report RUN`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainables.errors import BadInput, Problem, os_reason
from trainables.plugins import use_plugins
from tuner.cli.arguments import SUCCEEDED, add_directory_flag, add_plugin_flag, guarded
from tuner.cli.commands import command_parser
from tuner.record.find import find_run
from tuner.record.plugin_record import use_recorded_plugins


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: the page is written; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("report")
    add = parser.add_argument
    add("run", metavar="RUN", help="its name (the latest run), NAME/RUN, or its experiment directory")
    add_directory_flag(parser)
    add_plugin_flag(parser)
    add("--output", type=Path, metavar="FILE", help="write the page there, and nothing into the experiment directory")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Writes the page and prints its file. Raises BadInput if it cannot be made or written."""
    from tuner.reports.write import write_report

    use_plugins(arguments.plugin)
    directory = find_run(arguments.run, arguments.directory, "RUN")
    use_recorded_plugins(directory)
    try:
        print(write_report(directory, arguments.output))
    except OSError as error:
        file = error.filename or str(arguments.output or directory)
        expected = "a file that can be written (see --output)"
        raise BadInput(Problem("", expected, os_reason(error), file=file)) from None
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
