"""What a comparison found: all scores for programs, tables for people."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.tuner.comparison.test_run_comparison import Stage
from tests.tuner.comparisons import ROWS, SEARCHED, comparison_of, fail_cell, finish_cell
from tuner.comparison.comparison_result import (
    CellFailure,
    closing_lines,
    comparison_result_of,
    tables_of,
    write_tables,
)
from tuner.record.directory import RunDirectory


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


class TestResult:
    def test_is_all_scores_and_agrees_with_the_tables(self, stage: Stage, tmp_path: Path) -> None:
        comparison = comparison_of()
        stage.run(comparison)
        result = comparison_result_of(
            comparison, RunDirectory(tmp_path), stage.journal.history, "https://me:secret@host", 3.0
        )
        assert result.complete
        assert (len(result.scores), len(result.entries)) == (8, 4)
        smile = next(e for e in result.entries if (e.row, e.column) == ("SMILE", "30"))
        assert (smile.mean, smile.best, smile.pairs) == (pytest.approx(0.75), True, 2)
        assert smile.difference == pytest.approx(0.2)
        result.write(tmp_path / "deep" / "result.json")
        text = (tmp_path / "deep" / "result.json").read_text()
        assert json.loads(text)["rows"] == ["L²", "SMILE"]
        assert "secret" not in text

    def test_is_incomplete_while_a_row_has_no_score(self, stage: Stage, tmp_path: Path) -> None:
        finish_cell(stage.journal, "L²", "20", 0, 0.5)
        fail_cell(stage.journal, "SMILE", "20", 0)
        result = comparison_result_of(comparison_of(), RunDirectory(tmp_path), stage.journal.history, "sqlite://", 3.0)
        assert not result.complete
        assert result.failures == [CellFailure("SMILE", "20", 0, "diverged")]
        directory = RunDirectory(tmp_path)
        write_tables(comparison_of(), directory, stage.journal.history)
        assert "  failed         SMILE | 20 | seed 0: diverged" in list(closing_lines(result, directory))

    def test_the_objective_has_a_table_before_that_of_top1(self, stage: Stage, tmp_path: Path) -> None:
        comparison = comparison_of(search__objective="log_loss", compare__columns=[{"label": "all"}])
        for row, top1, loss in (("L²", 0.75, 0.5), ("SMILE", 0.5, 0.25)):
            for seed in range(2):
                metrics = {"top1": top1, "log_loss": loss, "macro_f1": 0.9}
                finish_cell(stage.journal, row, "all", seed, top1, metrics)
        loss_table, accuracy = tables_of(comparison, stage.journal.history)
        assert [row[0].best for row in loss_table.entries] == [False, True], "less is better"
        assert [row[0].best for row in accuracy.entries] == [True, False]
        write_tables(comparison, RunDirectory(tmp_path), stage.journal.history)
        text = (tmp_path / "comparison.md").read_text()
        assert text.index("## Test log loss (lower is better)") < text.index("## Test accuracy, top-1 (%)")
        assert "**0.2500 ± 0.0000**" in text
        assert "**75.00 ± 0.00**" in text
        result = comparison_result_of(comparison, RunDirectory(tmp_path), stage.journal.history, "sqlite://", 3.0)
        assert {entry.metric for entry in result.entries} == {"test_log_loss", "test_top1"}
        assert result.scores[0].metrics["macro_f1"] == 0.9

    def test_a_rows_own_objective_has_a_table_too(self) -> None:
        searched = {**SEARCHED, "search": {**SEARCHED["search"], "objective": "macro_f1"}}
        rows = [*ROWS, searched]
        names = [each.name for each in comparison_of(compare__rows=rows).objectives]
        assert names == ["macro_f1", "top1"]
        assert [each.name for each in comparison_of().objectives] == ["top1"]

    def test_a_training_of_an_earlier_version_has_top1_alone(self, stage: Stage) -> None:
        comparison = comparison_of(search__objective="macro_f1")
        finish_cell(stage.journal, "L²", "20", 0, 0.5)
        f1, accuracy = tables_of(comparison, stage.journal.history)
        assert (f1.entries[0][0].mean, accuracy.entries[0][0].mean) == (None, 0.5)

    def test_interpolation_has_tables_of_its_own(self, stage: Stage, tmp_path: Path) -> None:
        comparison = comparison_of(compare__measures=["interpolation"], compare__columns=[{"label": "all"}])
        parts = itertools.product(("label", "feature"), ("", "_relative"), ("train", "test"))
        names = [f"{name}_il{kind}_{split}" for name, kind, split in parts]
        for row, value in (("L²", 2.0), ("SMILE", 1.0)):
            for seed in range(2):
                finish_cell(stage.journal, row, "all", seed, 0.5, **dict.fromkeys(names, value + seed))
        accuracy, absolute, relative = tables_of(comparison, stage.journal.history)
        expected = ["Label-IL train", "Label-IL test", "Feature-IL train", "Feature-IL test"]
        assert [heading.text for heading in absolute.headings] == expected
        assert [entry.best for entry in absolute.entries[1]] == [True] * 4
        assert relative.entries[0][0].mean == accuracy.entries[0][0].mean * 5  # type: ignore[operator]
        write_tables(comparison, RunDirectory(tmp_path), stage.journal.history)
        assert "| SMILE | **1.500 ± 0.707** |" in (tmp_path / "comparison.md").read_text()
        assert "<strong>1.500 ± 0.707</strong>" in (tmp_path / "comparison.html").read_text()
