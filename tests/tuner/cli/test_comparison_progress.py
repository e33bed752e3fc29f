"""Lines and live display of a comparison."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.comparisons import fail_cell, finish_cell
from tuner.cli.comparison_progress import ComparisonProgress
from tuner.record.directory import RunDirectory
from tuner.record.events import RowSearched, ShareGrown
from tuner.record.journal import open_comparison_journal


class Screen:
    """A comparison's journal, and what a person sees of it."""

    def __init__(self, directory: Path, terminal: bool = False) -> None:
        self.file = io.StringIO()
        console = Console(file=self.file, force_terminal=terminal, width=200, highlight=False)
        self.progress = ComparisonProgress(console, "tiny", num_cells=8, concurrency=2)
        self.journal = open_comparison_journal(RunDirectory(directory))
        self.journal.listeners.append(self.progress)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture
def plain(tmp_path: Path) -> Screen:
    return Screen(tmp_path)


def test_scores_failures_and_the_time_left_are_lines(plain: Screen) -> None:
    finish_cell(plain.journal, "L²", "20 [%]", 0, 0.51234)
    fail_cell(plain.journal, "SMILE", "20 [%]", 0)
    assert plain.lines == [
        "[0:00] L² | 20 [%] | seed 0: test top-1 0.5123 in 0:02  | 1/8 trainings, about 0:05 left",
        "[0:00] SMILE | 20 [%] | seed 0 failed: diverged  | 1/8 trainings, 1 failed, about 0:04 left",
    ]


def test_what_a_rows_search_chose_is_a_line(plain: Screen) -> None:
    plain.journal.append(RowSearched(row="a", column="b", trial=1, val_top1=0.75))
    plain.journal.append(RowSearched(row="c", column="b"))
    assert plain.lines == [
        "[0:00] a | b: val top-1 0.7500, chosen",
        "[0:00] c | b: no trial of the search is complete",
    ]


def test_a_choice_by_another_metric_says_it_and_top1(plain: Screen) -> None:
    plain.journal.append(
        RowSearched(row="a", column="b", trial=1, val_top1=0.75, objective="log_loss", val_objective=0.4)
    )
    assert plain.lines == ["[0:00] a | b: val log loss 0.4000 (top-1 0.7500), chosen"]


def test_a_share_that_grows_is_a_line(plain: Screen) -> None:
    plain.journal.append(ShareGrown(gpus=0.5, reason="CUDA out of memory"))
    assert plain.lines == ["[0:00] out of memory on its share of a GPU: 0.5 of one from now on"]


def test_a_terminal_has_a_live_display(tmp_path: Path) -> None:
    screen = Screen(tmp_path, terminal=True)
    with screen.progress as progress:
        finish_cell(screen.journal, "L²", "20", 0, 0.5)
        assert progress._live is not None
        progress._live.refresh()
    assert "1/8 trainings" in screen.file.getvalue()
