"""MLflow ends up showing what the journal says, however often and after whatever mishap it is written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import (
    DEAD,
    NAME,
    RUN,
    Store,
    end_trial,
    finish_fold,
    finish_search,
    interrupt_search,
    lose_a_trial,
    run_trial,
    start_search,
    start_trial,
    whole_search,
)
from trainables.errors import BadInput
from tuner.record.directory import RunDirectory
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.tracking.description import TAG as DESCRIPTION
from tuner.tracking.projection import Projection
from tuner.tracking.search_projection import SearchProjection

pytestmark = MLFLOW_LEAKS


def test_carrying_over_again_changes_nothing(
    projection: Projection, journal: SearchJournal, store: Store, uri: str, directory: RunDirectory
) -> None:
    whole_search(journal)
    projection.advance()
    before = store.snapshot()
    projection.advance()
    Projection(uri, NAME, directory).advance()
    assert store.snapshot() == before
    directory.mlflow_cursor.unlink()
    Projection(uri, NAME, directory).advance()
    assert store.snapshot() == before


def test_event_by_event_is_as_good_as_all_at_once(
    journal: SearchJournal, store: Store, uri: str, directory: RunDirectory
) -> None:
    whole_search(journal)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    for count in range(len(lines) + 1):
        journal.path.write_bytes(b"".join(lines[:count]) + b'{"event": "torn')
        Projection(uri, NAME, directory).advance()
    stepwise = store.snapshot()
    journal.path.write_bytes(b"".join(lines))
    Projection(uri, "at-once", directory).advance()
    assert _without_ids(Store(uri, "at-once").snapshot()) == _without_ids(stepwise)


@pytest.mark.parametrize("is_longer", [True, False])
def test_a_cursor_that_is_ahead_of_the_copied_journal_loses_no_event(
    journal: SearchJournal, store: Store, uri: str, directory: RunDirectory, is_longer: bool
) -> None:
    """Of a machine that is lost, the cursor may have been copied later than the journal, which goes on otherwise."""
    start_search(journal)
    copied = journal.path.read_bytes()
    run_trial(journal, 0, [0.5, 0.5])
    Projection(uri, NAME, directory).advance()
    directory.journal.write_bytes(copied)
    with closing(open_search_journal(directory)) as elsewhere:
        run_trial(elsewhere, 1, [0.7, 0.7] if is_longer else [])
    Projection(uri, NAME, directory).advance()
    assert "trial-0001" in store.runs


def _without_ids(snapshot: dict[str, Any]) -> dict[str, Any]:
    for _, _, _, _, tags, _ in snapshot.values():
        tags.pop("mlflow.parentRunId", None)
        if DESCRIPTION in tags:
            tags[DESCRIPTION] = re.sub(r"#/experiments/\d+/", "", tags[DESCRIPTION])
    return snapshot


class FailsAt:
    """Stands in for MlflowClient's methods that write: the `position`-th call fails, before or after it took effect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, position: int, after: bool) -> None:
        self.calls = 0
        for name in ("create_run", "log_batch", "update_run", "set_terminated", "log_text"):
            monkeypatch.setattr(MlflowClient, name, self._wrapped(getattr(MlflowClient, name), position, after))

    def _wrapped(self, method: Callable[..., Any], position: int, after: bool) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            failing = self.calls == position
            if failing and not after:
                raise ConnectionError("away")
            result = method(*args, **kwargs)
            if failing:
                raise ConnectionError("away")
            return result

        return wrapper


@pytest.mark.parametrize("after", [False, True])
def test_no_failed_request_leaves_a_trace(
    projection: Projection,
    journal: SearchJournal,
    store: Store,
    uri: str,
    directory: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7])
    directory.space.write_text("name: smile-digits\n")
    finish_search(journal)
    with monkeypatch.context() as patch:
        counter = FailsAt(patch, 0, after)
        projection.advance()
    expected = _without_ids(store.snapshot())
    for position in range(1, counter.calls + 1):
        experiment = f"failing-{position}"
        failing = Projection(uri, experiment, directory)
        with monkeypatch.context() as patch:
            FailsAt(patch, position, after)
            with pytest.raises(ConnectionError):
                failing.advance()
        next_try = failing if position % 2 else Projection(uri, experiment, directory)  # as after a crash
        next_try.advance()
        assert _without_ids(Store(uri, experiment).snapshot()) == expected, f"request {position}"


def test_a_search_that_is_resumed(projection: Projection, journal: SearchJournal, store: Store) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    start_trial(journal, 1)
    finish_fold(journal, 1, 1, 0.9)
    start_trial(journal, 2)
    interrupt_search(journal, best_trial=0, val_top1=0.75, duration_s=5.0)
    projection.advance()
    stopped = store.runs
    assert stopped["trial-0001"].info.status == stopped["trial-0002"].info.status == "KILLED"
    assert stopped["trial-0001"].data.tags["state"] == "failed"
    assert stopped[RUN].data.tags["why"] == "interrupted"

    start_search(journal)
    start_trial(journal, 1)
    projection.advance()
    resumed = store.runs
    assert resumed[RUN].info.status == resumed["trial-0001"].info.status == "RUNNING"
    assert resumed["trial-0001"].data.tags["state"] == "running"
    assert resumed["trial-0001"].data.tags["reason"] == ""
    assert {name: run.info.run_id for name, run in resumed.items()} == {
        name: run.info.run_id for name, run in stopped.items()
    }

    for k in (1, 2):
        finish_fold(journal, 1, k, 0.9)
    end_trial(journal, 1)
    finish_search(journal)
    projection.advance()
    assert store.runs["trial-0001"].data.metrics["val_top1"] == 0.9
    assert store.runs["trial-0001"].info.status == store.runs[RUN].info.status == "FINISHED"


def test_the_file_that_is_written_later_still_goes_along(
    projection: Projection, journal: SearchJournal, store: Store, directory: RunDirectory
) -> None:
    start_search(journal)
    projection.advance()
    directory.environment.write_text("{}")
    projection.advance()
    artifacts = store.client.list_artifacts(store.runs[RUN].info.run_id)
    assert [file.path for file in artifacts] == ["environment.json"]


def test_a_run_that_somebody_deleted_does_not_stop_the_rest(
    projection: Projection, journal: SearchJournal, store: Store, uri: str, directory: RunDirectory
) -> None:
    lose_a_trial(projection, journal, store)
    end_trial(journal, 0)
    Projection(uri, NAME, directory).advance()
    experiment = store.client.get_experiment_by_name(NAME)
    assert experiment is not None
    (run,) = store.client.search_runs([experiment.experiment_id], "tags.trial_id = 'trial-0000'")
    assert run.data.metrics["val_top1"] == 0.9


def test_another_store_gets_the_whole_journal(
    projection: Projection,
    journal: SearchJournal,
    uri: str,
    directory: RunDirectory,
    tmp_path: Path,
    empty_database: Path,
) -> None:
    whole_search(journal)
    projection.advance()
    shutil.copy(empty_database, tmp_path / "second.db")
    second = f"sqlite:///{tmp_path / 'second.db'}"
    Projection(second, NAME, directory).advance()
    assert len(Store(second).runs) == 7


class TestASearchWhoseProcessDied:
    def test_has_no_run_that_runs(self, projection: Projection, journal: SearchJournal, store: Store) -> None:
        start_search(journal)
        run_trial(journal, 0, [0.7])
        start_trial(journal, 1)
        projection.advance()
        assert {store.runs[name].info.status for name in (RUN, "trial-0001")} == {"RUNNING"}
        assert projection.kill_unfinished()
        runs = store.runs
        assert {name: run.info.status for name, run in runs.items()} == {
            RUN: "KILLED",
            "trial-0000": "FINISHED",
            "trial-0001": "KILLED",
        }
        assert runs[RUN].data.tags["why"] == runs["trial-0001"].data.tags["reason"] == "its process died"
        before = store.snapshot()
        assert projection.kill_unfinished()
        assert store.snapshot() == before

        start_search(journal)  # it goes on
        projection.advance()
        assert {store.runs[name].info.status for name in (RUN, "trial-0001")} == {"RUNNING"}

    def test_one_that_ended_is_left_as_it_is(
        self, projection: Projection, journal: SearchJournal, store: Store
    ) -> None:
        whole_search(journal)
        projection.advance()
        before = store.snapshot()
        assert not projection.kill_unfinished()
        assert store.snapshot() == before


def test_a_journal_of_another_format_is_refused(
    projection: Projection, journal: SearchJournal, directory: RunDirectory
) -> None:
    start_search(journal)
    _, *events = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b'{"event": "journal", "format": 0}\n' + b"".join(events))
    with pytest.raises(BadInput, match=r"journal\.jsonl:1: expected a journal of format 1, got format 0"):
        projection.advance()
    assert not directory.mlflow_cursor.exists()


def test_a_journal_without_a_start_is_refused(projection: Projection, journal: SearchJournal) -> None:
    start_trial(journal, 0)
    with pytest.raises(BadInput, match="expected the start of a search or a comparison as first event, got trial_st"):
        projection.advance()


def test_no_search_is_nothing_to_do(projection: Projection, directory: RunDirectory) -> None:
    projection.advance()
    assert not directory.mlflow_cursor.exists()


def test_an_event_is_few_requests(
    projection: Projection, journal: SearchJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_search(journal)
    projection.advance()
    counter = FailsAt(monkeypatch, 0, False)
    costs = []
    for step in (
        lambda: start_trial(journal, 0),
        lambda: finish_fold(journal, 0, 1, 0.9),
        lambda: end_trial(journal, 0),
    ):
        step()
        before = counter.calls
        projection.advance()
        costs.append(counter.calls - before)
    assert costs == [2, 1, 3]


def test_no_credentials_reach_the_store_or_the_disk(
    finished: Store, journal: SearchJournal, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = finished.client.download_artifacts(finished.runs[RUN].info.run_id, "space.yaml")
    assert "http://host/" in Path(artifact).read_text()
    start_search(journal)
    monkeypatch.setattr("tuner.tracking.projection.open_store", lambda *_: (None, "1"))
    monkeypatch.setattr("tuner.tracking.run_writer.runs_with", lambda *_, **__: [])
    monkeypatch.setattr(SearchProjection, "project", lambda *_: None)
    Projection(DEAD, NAME, directory).advance()
    saved = directory.mlflow_cursor.read_text()
    assert json.loads(saved)["uri"] == "http://127.0.0.1:9"
