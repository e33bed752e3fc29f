"""Writes a search's report as one HTML page, or a page that compares searches: `python -m tuner.report RUN [RUN …]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainables.errors import BadInput, Problem, os_reason
from trainables.plugins import use_plugins
from tuner.cli.arguments import FAILED, SUCCEEDED, add_directory_flag, add_plugin_flag, guarded, write_json
from tuner.cli.commands import command_parser
from tuner.record.directory import RunDirectory
from tuner.record.find import find_run
from tuner.record.plugin_record import use_recorded_plugins

COMPARED = Path("searches.html")
PORT = 8000


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: the page is written, or its serving was ended; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("report")
    add = parser.add_argument
    name = "its name (the latest run), NAME/RUN, or its experiment directory; of two or more, a page compares them"
    add("run", metavar="RUN", nargs="+", help=name)
    add_directory_flag(parser)
    add_plugin_flag(parser)
    where = parser.add_mutually_exclusive_group()
    output = f"write the page there, and nothing into the experiment directory (of several runs: {COMPARED})"
    where.add_argument("--output", type=Path, metavar="FILE", help=output)
    where.add_argument("--serve", action="store_true", help="serve the page instead, anew as the search goes on")
    add("--port", type=int, default=PORT, help=f"port of this machine, with --serve (default: {PORT})")
    add("--json", type=Path, metavar="FILE", help="write the result, or the comparison, there, for other programs")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Writes the page and prints its file, or serves it. Raises BadInput if it cannot be made, written or served."""
    from tuner.reports.serving import LivePage, serve
    from tuner.reports.write import render, result_json, write_comparison, write_report

    use_plugins(arguments.plugin)
    directories = [find_run(name, arguments.directory, "RUN") for name in arguments.run]
    _check_distinct(directories)
    for directory in directories:
        use_recorded_plugins(directory)
    if arguments.json is not None and not write_json(result_json(directories).write, arguments.json):
        return FAILED
    if arguments.serve:
        serve(LivePage(directories, lambda: render(directories)), arguments.port)
        return SUCCEEDED
    try:
        if len(directories) == 1:
            print(write_report(directories[0], arguments.output))
        else:
            print(write_comparison(directories, arguments.output or COMPARED))
    except OSError as error:
        file = error.filename or str(arguments.output or directories[0])
        expected = "a file that can be written (see --output)"
        raise BadInput(Problem("", expected, os_reason(error), file=file)) from None
    return SUCCEEDED


def _check_distinct(directories: Sequence[RunDirectory]) -> None:
    for position, directory in enumerate(directories):
        if directory in directories[:position]:
            raise BadInput(Problem("RUN", "different runs", f"{directory} twice"))


if __name__ == "__main__":
    raise SystemExit(main())
