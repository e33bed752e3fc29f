"""A run in a line, read off its journal and its lock."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.tuner.comparisons import fail_cell, finish_cell
from tests.tuner.summaries import BROKEN, FINISHED, INTERRUPTED, write_search
from tests.tuner.tiny import search_journal, search_started, space_of
from trainables.results import FoldResult
from tuner.list import best_of
from tuner.record.directory import RunDirectory
from tuner.record.events import ComparisonStarted, FoldFinished, SearchEnded, TrialEnded, TrialStarted
from tuner.record.journal import open_comparison_journal
from tuner.record.lock import locked
from tuner.record.summary import summaries_of, summary_of


@pytest.mark.parametrize(
    ("ending", "state", "why"),
    [
        (None, "died", "its process ended and recorded no reason"),
        (INTERRUPTED, "interrupted", ""),
        (FINISHED, "finished", "every trial has ended"),
        (BROKEN, "failed", "OSError: no space left on device"),
    ],
)
def test_how_a_search_stands(ending: SearchEnded | None, state: str, why: str, tmp_path: Path) -> None:
    summary = summary_of(write_search(tmp_path / "tiny" / "a", ending))
    assert (summary.name, summary.run, summary.kind) == ("tiny", "a", "search")
    assert (summary.state, summary.why) == (state, why)
    assert summary.num_asked == 6
    assert summary.counts == {"complete": 2, "pruned": 1, "open": 1}
    assert summary.best == 0.75
    assert summary.last_event_s >= summary.started_s


def test_one_that_died_says_which_process_it_was_and_what_its_exit_monitor_knew(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "tiny" / "a")
    with locked(directory):
        pass
    process = f"process {os.getpid()} on {socket.gethostname()}"
    assert summary_of(directory).why == f"{process} ended and recorded no reason"
    directory.logs.mkdir()
    directory.exit_report.write_text("Ray's raylet (process 8) died\n")
    changed_s = directory.journal.stat().st_mtime
    os.utime(directory.exit_report, (changed_s, changed_s))
    assert summary_of(directory).why == "Ray's raylet (process 8) died"
    os.utime(directory.exit_report, (changed_s - 1, changed_s - 1))  # of a command before the last one
    assert summary_of(directory).why == f"{process} ended and recorded no reason"


def test_a_search_without_dimensions_asks_for_one_trial(tmp_path: Path) -> None:
    space = space_of(method__gamma_fe=0.01, method__alpha=0.2)
    assert summary_of(write_search(tmp_path / "tiny" / "a", space=space)).num_asked == 1


def test_a_search_that_time_alone_limits_asks_for_no_number(tmp_path: Path) -> None:
    space = space_of(search__trials=None, search__minutes=30)
    assert summary_of(write_search(tmp_path / "tiny" / "a", space=space)).num_asked is None


def test_one_that_runs_says_where(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "tiny" / "a", INTERRUPTED)  # by an earlier command, which this one resumes
    with locked(directory):
        summary = summary_of(directory)
    assert summary.state == "running"
    assert summary.why.startswith("process ")
    assert summary.counts == {"complete": 2, "pruned": 1, "running": 1}


def test_a_comparison_counts_its_trainings(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "tiny" / "a")
    compare = {"seeds": 2, "rows": [{}, {}], "columns": [{}]}
    with closing(open_comparison_journal(directory)) as journal:
        journal.append(ComparisonStarted(name="tiny", run="a", space={"compare": compare}))
        finish_cell(journal, "L²", "15 %", 0, 0.5)
        fail_cell(journal, "L²", "15 %", 1)
    summary = summary_of(directory)
    assert (summary.kind, summary.num_asked, summary.counts) == ("comparison", 4, {"complete": 1, "failed": 1})


def test_a_journal_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "tiny" / "a")
    with directory.journal.open("a") as file:
        file.write("no json\n")
    (summary,) = summaries_of(tmp_path)
    num_lines = len(directory.journal.read_text().splitlines())
    assert summary.state == "unreadable"
    assert summary.why.startswith(f"journal.jsonl:{num_lines}: expected an event, got ")


def test_the_best_is_the_value_of_the_objective(tmp_path: Path) -> None:
    with closing(search_journal(tmp_path / "tiny" / "a")) as journal:
        journal.append(search_started(space_of(search__objective="log_loss")))
        for number, loss in enumerate((0.5, 0.25)):
            journal.append(TrialStarted(trial=number, params={}, source="sampler"))
            journal.append(FoldFinished(trial=number, result=FoldResult(1, 0.5, 1.0, metrics={"log_loss": loss})))
            journal.append(TrialEnded(trial=number, state="complete"))
        summary = summary_of(journal.directory)
    assert (summary.best, summary.objective) == (0.25, "log_loss")
    assert best_of(summary) == "0.2500 log loss"
