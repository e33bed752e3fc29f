"""MLflow synced with a run by hand."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tiny import baseline_events
from tests.tuner.tracking.searches import (
    DEAD,
    NAME,
    RUN,
    Store,
    retrain,
    run_trial,
    start_search,
    start_trial,
    ticking_journal,
    whole_search,
)
from tuner import replay as track
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment
from tuner.record.events import ComparisonStarted
from tuner.record.history import SearchHistory
from tuner.record.journal import ComparisonJournal, SearchJournal, open_comparison_journal
from tuner.record.lock import locked
from tuner.replay import main
from tuner.tracking.replay import store_of

pytestmark = MLFLOW_LEAKS


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)


def replay(journal: SearchJournal | ComparisonJournal, uri: str, *more: str) -> int:
    root = journal.directory.path.parent.parent
    return main([NAME, "--directory", str(root), "--tracking-uri", uri, *more])


def test_everything_is_there_and_twice_changes_nothing(
    journal: SearchJournal, uri: str, tmp_path: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_search(journal)
    journal.directory.space.unlink()  # an artifact is a file that nobody compares
    assert replay(journal, uri) == 0
    assert f"{NAME}/{RUN}: 18 events written, 7 runs, in {uri}" in capsys.readouterr().out
    once = Store(uri).snapshot()
    assert len(once) == 7
    assert replay(journal, uri) == 0
    assert "0 events written, 7 runs" in capsys.readouterr().out
    assert Store(uri).snapshot() == once
    assert replay(journal, uri, "--from-start") == 0
    assert "18 events written, 7 runs" in capsys.readouterr().out
    assert Store(uri).snapshot() == once

    another = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'new.db')}"  # as after the loss of the first
    assert replay(journal, another) == 0
    assert without_ids(Store(another)) == without_ids(Store(uri))


def without_ids(store: Store) -> dict[str, object]:
    snapshot = store.snapshot()
    for run in snapshot.values():
        run[4].pop("mlflow.parentRunId", None)
    return snapshot


def test_a_search_that_was_killed_has_no_run_that_runs(
    journal: SearchJournal, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7])
    start_trial(journal, 1)
    assert replay(journal, uri) == 0
    assert "its process died: what ran is KILLED" in capsys.readouterr().out
    assert {name: run.info.status for name, run in Store(uri).runs.items()} == {
        RUN: "KILLED",
        "trial-0000": "FINISHED",
        "trial-0001": "KILLED",
    }


def test_the_searches_of_a_comparison_go_along(tmp_path: Path, uri: str) -> None:
    directory = RunDirectory(tmp_path / "experiments" / NAME / RUN)
    comparison = open_comparison_journal(directory)
    comparison.append(ComparisonStarted(name=NAME, run=RUN, space={}))
    with ticking_journal(directory.row_search(0)) as journal:
        whole_search(journal, f"{RUN}-search-00")
    assert replay(comparison, uri) == 0
    assert Store(uri).runs.keys() >= {RUN, f"{RUN}-search-00", "trial-0003"}


def test_a_search_that_runs_is_refused(journal: SearchJournal, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole_search(journal)
    with locked(journal.directory):
        assert replay(journal, uri) == 2
    assert "expected no other process at work on this search, got process" in capsys.readouterr().err
    assert Store(uri).client.get_experiment_by_name(NAME) is None


def test_a_store_that_is_away_is_said(journal: SearchJournal, capsys: pytest.CaptureFixture[str]) -> None:
    whole_search(journal)
    assert replay(journal, DEAD) == 2
    err = capsys.readouterr().err
    assert "--tracking-uri: " in err
    assert "hunter2" not in err


def test_a_model_that_was_not_registered_is_tried_again(
    journal: SearchJournal, uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7])
    retrain(journal, 0)
    assert replay(journal, uri) == 0
    assert f"the model is not registered ({journal.directory.model}" in capsys.readouterr().out

    monkeypatch.setattr("tuner.tracking.replay.Classifier.load", lambda _: None)
    monkeypatch.setattr("tuner.tracking.replay._example", lambda _: ["text"])
    monkeypatch.setattr("tuner.tracking.replay.register_model", lambda *_: "models:/smile-digits@champion")
    assert replay(journal, uri) == 0
    assert "registered models:/smile-digits@champion" in capsys.readouterr().out
    assert Store(uri).runs[RUN].data.tags["model_uri"] == "models:/smile-digits@champion"

    monkeypatch.setattr("tuner.tracking.replay.has_model", lambda *_: True)
    monkeypatch.setattr("tuner.tracking.replay.register_model", lambda *_: pytest.fail("registered twice"))
    assert replay(journal, uri) == 0


def test_where_a_baseline_won_its_model_is_what_is_registered(
    journal: SearchJournal, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7])
    for event in baseline_events("linear_probe", [0.9], [0.8]):
        journal.append(event)
    registered: list[object] = []
    monkeypatch.setattr("tuner.tracking.replay.Classifier.load", lambda _: None)
    monkeypatch.setattr("tuner.tracking.replay._example", lambda _: ["text"])
    monkeypatch.setattr(
        "tuner.tracking.replay.register_model", lambda *given: registered.append(given[7]) or "models:/x"
    )
    assert replay(journal, uri) == 0
    assert registered == ["linear_probe"]
    assert SearchHistory.read(journal.path).model_uri("linear_probe") == "models:/x"


def test_a_model_in_another_store_is_none_of_the_record(
    journal: SearchJournal, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7])
    retrain(journal, 0)
    Environment(tracking_uri="http://host:5000").write(journal.directory)
    monkeypatch.setattr("tuner.tracking.replay.Classifier.load", lambda _: None)
    monkeypatch.setattr("tuner.tracking.replay._example", lambda _: ["text"])
    monkeypatch.setattr("tuner.tracking.replay.register_model", lambda *_: "models:/digits/7")
    assert replay(journal, uri) == 0
    assert SearchHistory.read(journal.path).model_uri(0) is None
    Environment(tracking_uri=uri).write(journal.directory)
    assert replay(journal, uri) == 0
    registered = SearchHistory.read(journal.path).registered(0)
    assert registered is not None
    assert (registered.uri, registered.seed, registered.test_top1) == ("models:/digits/7", 0, 0.9)


class TestStoreOf:
    @pytest.fixture
    def directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        directory = RunDirectory(tmp_path)
        Environment(tracking_uri="http://host:5000").write(directory)
        return directory

    def test_what_is_given_counts_most(self, directory: RunDirectory) -> None:
        assert store_of(directory, "http://other") == "http://other"

    def test_else_the_recorded_one(self, directory: RunDirectory) -> None:
        assert store_of(directory, None) == "http://host:5000"

    def test_with_the_credentials_of_the_environment(
        self, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://robot:hunter2@host:5000")
        assert store_of(directory, None) == "http://robot:hunter2@host:5000"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://robot:hunter2@elsewhere")
        assert store_of(directory, None) == "http://host:5000"

    def test_an_old_record_says_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here")
        assert store_of(RunDirectory(tmp_path), None) == "http://here"


def test_the_module_is_a_command() -> None:
    with pytest.raises(SystemExit) as ended:
        track.main([])
    assert ended.value.code == 2
