"""What a search has found, on one page: `python -m tuner.report RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainables.errors import BadInput, Problem
from trainables.files import write_whole
from tuner.cli.arguments import FOUND, guarded
from tuner.cli.commands import command_parser
from tuner.record.find import EXPERIMENTS, find_run
from tuner.reports.page import report_page
from tuner.reports.search_run import read_run
from tuner.reports.write import write_report


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = command_parser("report")
    add = parser.add_argument
    add("run", metavar="RUN", help="its name (the latest run), NAME/RUN, or its experiment directory")
    add("--directory", type=Path, default=EXPERIMENTS, metavar="FOLDER", help="where the experiments lie")
    add("--output", type=Path, metavar="FILE", help="write the page there, and nothing into the experiment directory")
    arguments = parser.parse_args(argv)
    return guarded(lambda: report(find_run(arguments.run, arguments.directory, "RUN"), arguments.output))


def report(directory: Path, output: Path | None) -> int:
    """Writes the page and says where it is. Raises BadInput where it cannot be made or written."""
    try:
        if output is None:
            output = write_report(directory)
        else:
            write_whole(output, report_page(read_run(directory)).encode())
        print(output)
    except OSError as error:
        where, got = error.filename or str(output or directory), error.strerror or str(error)
        raise BadInput(Problem("", "a place that can be written (--output FILE)", got.lower(), file=where)) from None
    return FOUND


if __name__ == "__main__":
    raise SystemExit(main())
