"""Writes the report and the best configuration into an experiment directory."""

from __future__ import annotations

from pathlib import Path

from trainables.files import write_whole
from tuner.experiment.search_experiment import dump_experiment
from tuner.reports.page import report_page
from tuner.reports.search_run import best_space, read_run

REPORT = "report.html"


BEST = "best.yaml"


def write_report(directory: Path) -> Path:
    """Writes `report.html` into an experiment directory, and the best configuration as `best.yaml`, which can be run
    as it is. Returns the page's file.

    Raises:
        BadInput: where it is not the directory of a search.
        OSError: where the disk will not have it.
    """
    run = read_run(directory)
    if (alone := best_space(run)) is not None:
        write_whole(directory / BEST, dump_experiment(alone).encode())
    write_whole(directory / REPORT, report_page(run).encode())
    return directory / REPORT
