"""What a search has found, on one page: `python -m tuner.report RUN`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainables.errors import BadInput, Problem
from trainables.files import write_whole
from tuner.cli import FOUND, guarded
from tuner.reports.page import report_page
from tuner.reports.run import best_space, read_run
from tuner.runs import EXPERIMENTS, find_run
from tuner.space import dump_space

REPORT = "report.html"
BEST = "best.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tuner.report", description="Write a search's report, as HTML.")
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
        where, came = error.filename or str(output or directory), error.strerror or str(error)
        raise BadInput(Problem("", "a place that can be written (--output FILE)", came.lower(), file=where)) from None
    return FOUND


def write_report(directory: Path) -> Path:
    """Writes `report.html` into an experiment directory, and the best configuration as `best.yaml`, which can be run
    as it is. Returns the page's file.

    Raises:
        BadInput: where it is not the directory of a search.
        OSError: where the disk will not have it.
    """
    run = read_run(directory)
    if (alone := best_space(run)) is not None:
        write_whole(directory / BEST, dump_space(alone).encode())
    write_whole(directory / REPORT, report_page(run).encode())
    return directory / REPORT


if __name__ == "__main__":
    raise SystemExit(main())
