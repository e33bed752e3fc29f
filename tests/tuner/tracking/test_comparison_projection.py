"""What MLflow has of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.comparisons import fail_cell, finish_cell
from tests.tuner.tracking.searches import NAME, RUN, Store, TickingJournal, start_search, ticking_journal
from tuner.experiment.precision import Precisions
from tuner.record.directory import RunDirectory
from tuner.record.events import ComparisonEnded, ComparisonStarted, HardwareInspected, RowSearched
from tuner.record.history import ComparisonHistory
from tuner.record.journal import ComparisonJournal
from tuner.tracking.projection import Projection

pytestmark = MLFLOW_LEAKS


@pytest.fixture
def journal(directory: RunDirectory) -> Iterator[ComparisonJournal]:
    with closing(TickingJournal(directory, ComparisonHistory())) as journal:
        yield journal


def start(journal: ComparisonJournal) -> None:
    journal.append(ComparisonStarted(name=NAME, run=RUN, space={"compare": {"seeds": 2}}))


def finish(journal: ComparisonJournal) -> None:
    journal.append(ComparisonEnded(outcome="finished", why="every training has ended", duration_s=9.0))


def whole_comparison(journal: ComparisonJournal) -> None:
    start(journal)
    journal.append(HardwareInspected(devices=("NVIDIA L4", "Tesla T4"), precisions=Precisions()))
    journal.append(RowSearched(row="L²", column="15 %", trial=1, params={"method.alpha": 0.5}, val_top1=0.5))
    finish_cell(journal, "L²", "15 %", 0, 0.5, {"log_loss": 1.25}, label_il_train=1.5)
    fail_cell(journal, "it's | odd", "15 %", 0)
    journal.directory.tables_markdown.write_text("first")
    finish(journal)


def test_a_run_a_training(journal: ComparisonJournal, projection: Projection, store: Store) -> None:
    whole_comparison(journal)
    projection.advance()
    runs = store.runs
    assert runs.keys() == {RUN, "L² | 15 % | seed 0", "it's | odd | 15 % | seed 0"}
    parent, cell = runs[RUN], runs["L² | 15 % | seed 0"]
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"compare.seeds": "2"}
    assert parent.data.metrics == {"duration_s": 9.0}
    assert parent.data.tags["devices"] == "NVIDIA L4; Tesla T4"
    expected = {"row": "L²", "column": "15 %", "seed": "0", "mlflow.parentRunId": parent.info.run_id}
    assert expected.items() <= cell.data.tags.items()
    expected_metrics = {"test_top1": 0.5, "test_log_loss": 1.25, "label_il_train": 1.5}
    assert expected_metrics.items() <= cell.data.metrics.items()
    assert cell.data.params == {"method.name": "l2"}
    assert store.series("L² | 15 % | seed 0", "loss/target_label") == [(1, 2.0), (2, 1.0)]
    assert cell.info.end_time - cell.info.start_time == 1500


def test_a_failure_has_its_reason(journal: ComparisonJournal, projection: Projection, store: Store) -> None:
    whole_comparison(journal)
    projection.advance()
    failed = store.runs["it's | odd | 15 % | seed 0"]
    assert (failed.info.status, failed.data.tags["reason"]) == ("FAILED", "diverged")
    assert "test_top1" not in failed.data.metrics


def test_what_is_tried_again_is_the_same_run(journal: ComparisonJournal, projection: Projection, store: Store) -> None:
    start(journal)
    fail_cell(journal, "L²", "15 %", 0)
    projection.advance()
    finish_cell(journal, "L²", "15 %", 0, 0.5)
    projection.advance()
    cell = store.runs["L² | 15 % | seed 0"]
    assert (cell.info.status, cell.data.tags["reason"]) == ("FINISHED", "")


def test_carrying_over_again_changes_nothing(
    journal: ComparisonJournal, projection: Projection, store: Store, uri: str, directory: RunDirectory
) -> None:
    whole_comparison(journal)
    projection.advance()
    before = store.snapshot()
    directory.mlflow_cursor.unlink()
    Projection(uri, NAME, directory).advance()
    assert store.snapshot() == before


def test_the_tables_are_those_of_the_end(journal: ComparisonJournal, projection: Projection, store: Store) -> None:
    whole_comparison(journal)
    projection.advance()
    start(journal)
    projection.advance()
    journal.directory.tables_markdown.write_text("second")
    finish(journal)
    projection.advance()
    run_id = store.runs[RUN].info.run_id
    local = store.client.download_artifacts(run_id, "comparison.md")
    assert Path(local).read_text() == "second"


def test_a_rows_own_search_says_whose_it_is(
    projection: Projection, store: Store, uri: str, directory: RunDirectory
) -> None:
    with ticking_journal(directory) as journal:
        start_search(journal, row="SMILE", column="15 %")
    projection.advance()
    assert {"row": "SMILE", "column": "15 %"}.items() <= store.runs[RUN].data.tags.items()
    again = Projection(uri, NAME, directory)
    assert (again.advance(), again.num_runs) == (0, 1)
