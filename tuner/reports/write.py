"""Writes the report and the best configuration into a run directory, and the page that compares searches.

Quick to import: the page, with plotly, is imported when it is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.files import write_whole
from tuner.messages.invocation import command_line
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import one_line
from tuner.record.directory import RunDirectory

if TYPE_CHECKING:
    from tuner.reports.search_comparison import SearchComparison
    from tuner.reports.search_result import SearchResult

logger = logging.getLogger(__name__)


def write_report(directory: RunDirectory, output: Path | None = None) -> Path:
    """Writes the report of a search as HTML, and returns its file.

    Without `output` it is `report.html` in the run directory, beside the best configuration as `best.yaml`, which can
    be run as it is; with `output` nothing is written into the run directory.

        write_report(RunDirectory(Path("experiments/digits/20261129-101500-ab12")))

    Raises:
        BadInput: where it is not the directory of a search.
        OSError: where a file cannot be written.
    """
    from tuner.reports.page import report_page
    from tuner.reports.search_run import best_yaml, read_run

    run = read_run(directory)
    if output is None and (alone := best_yaml(run)) is not None:
        write_whole(directory.best_space, alone.encode())
    file = output or directory.report
    write_whole(file, report_page(run).encode())
    return file


def render(directories: Sequence[RunDirectory]) -> str:
    """Renders the report of one search, or the page that compares several. Raises BadInput as `write_report`."""
    from tuner.reports.comparison_page import comparison_page
    from tuner.reports.page import report_page
    from tuner.reports.search_run import read_run

    runs = [read_run(directory) for directory in directories]
    return report_page(runs[0]) if len(runs) == 1 else comparison_page(runs)


def write_comparison(directories: Sequence[RunDirectory], output: Path) -> Path:
    """Writes the page that compares searches, and returns its file. Raises as `write_report`."""
    write_whole(output, render(directories).encode())
    return output


def result_json(directories: Sequence[RunDirectory]) -> SearchResult | SearchComparison:
    """Returns the result of one search, or the comparison of several, to be written as JSON. Raises BadInput."""
    from tuner.reports.search_comparison import compare_searches
    from tuner.reports.search_run import read_run

    runs = [read_run(directory) for directory in directories]
    return runs[0].result if len(runs) == 1 else compare_searches(runs)


def try_to_write_report(directory: RunDirectory, say: Callable[[str], None]) -> Path | None:
    """Writes the report of a search that has just ended, and says where it is.

    Returns None where that failed: the reason is said, with the command that tries again, and logged. The search's
    result stands without its report.
    """
    try:
        file = write_report(directory)
    except Exception as error:
        logger.exception("the report was not written")
        again = command_line("report", directory)
        say(f"there is no report ({without_credentials(one_line(error))}); try: {again}")
        return None
    say(f"report: {file}")
    return file
