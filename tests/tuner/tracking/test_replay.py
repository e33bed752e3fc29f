"""MLflow brought into line with an experiment directory by hand."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.conftest import empty_database, own_environment
from tests.tuner.tracking.searches import (
    DEAD,
    NAME,
    RUN,
    Store,
    run_trial,
    start_search,
    start_trial,
    ticking_journal,
    whole_search,
)
from tuner import replay as track
from tuner.record.journal import Journal
from tuner.record.lock import locked
from tuner.replay import main
from tuner.tracking.replay import store_of

__all__ = ["empty_database", "own_environment"]  # fixtures
pytestmark = MLFLOW_LEAKS


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with ticking_journal(tmp_path / "experiments" / NAME / RUN) as journal:
        yield journal


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"


def replay(journal: Journal, uri: str, *more: str) -> int:
    root = journal.directory.parent.parent
    return main([NAME, "--directory", str(root), "--tracking-uri", uri, *more])


def test_everything_is_there_and_twice_changes_nothing(
    journal: Journal, uri: str, tmp_path: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_search(journal)
    (journal.directory / "space.yaml").unlink()  # an artifact is a file that nobody compares
    assert replay(journal, uri) == 0
    assert f"{NAME}/{RUN}: 18 events carried over, 7 runs, in {uri}" in capsys.readouterr().out
    once = Store(uri).snapshot()
    assert len(once) == 7
    assert replay(journal, uri) == 0
    assert "0 events carried over, 7 runs" in capsys.readouterr().out
    assert Store(uri).snapshot() == once
    assert replay(journal, uri, "--from-start") == 0
    assert "18 events carried over, 7 runs" in capsys.readouterr().out
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
    journal: Journal, uri: str, capsys: pytest.CaptureFixture[str]
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


def test_the_searches_of_a_comparison_go_along(journal: Journal, uri: str) -> None:
    journal.append("comparison_started", name=NAME, run=RUN, space={}, params={})
    with ticking_journal(journal.directory / "searches" / "00") as arm:
        whole_search(arm, f"{RUN}-search-00")
    assert replay(journal, uri) == 0
    assert Store(uri).runs.keys() >= {RUN, f"{RUN}-search-00", "trial-0003"}


def test_a_search_that_runs_is_refused(journal: Journal, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole_search(journal)
    with locked(journal.directory):
        assert replay(journal, uri) == 2
    assert "no other process runs this search, got process" in capsys.readouterr().err
    assert Store(uri).client.get_experiment_by_name(NAME) is None


def test_a_store_that_is_away_is_said(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    whole_search(journal)
    assert replay(journal, DEAD) == 2
    err = capsys.readouterr().err
    assert "tracking.uri: " in err
    assert "hunter2" not in err


def test_a_model_that_was_not_registered_is_tried_again(
    journal: Journal, uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7])
    journal.append("retrain_finished", trial=0, seed=0, test_top1=0.9, duration_s=2.0, loss_steps=[], loss_terms={})
    assert replay(journal, uri) == 0
    assert f"the model is not registered ({journal.directory / 'model'}" in capsys.readouterr().out

    monkeypatch.setattr("tuner.tracking.replay.Classifier.load", lambda _: None)
    monkeypatch.setattr("tuner.tracking.replay._example", lambda _: ["text"])
    monkeypatch.setattr("tuner.tracking.replay.register_model", lambda **_: "models:/smile-digits@champion")
    assert replay(journal, uri) == 0
    assert "registered models:/smile-digits@champion" in capsys.readouterr().out
    assert Store(uri).runs[RUN].data.tags["model_uri"] == "models:/smile-digits@champion"

    monkeypatch.setattr("tuner.tracking.replay.has_model", lambda **_: True)
    monkeypatch.setattr("tuner.tracking.replay.register_model", lambda **_: pytest.fail("registered twice"))
    assert replay(journal, uri) == 0


class TestStoreOf:
    @pytest.fixture
    def directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (tmp_path / "environment.json").write_text(json.dumps({"tracking_uri": "http://host:5000"}))
        return tmp_path

    def test_what_is_given_counts_most(self, directory: Path) -> None:
        assert store_of(directory, "http://other") == "http://other"

    def test_else_the_recorded_one(self, directory: Path) -> None:
        assert store_of(directory, None) == "http://host:5000"

    def test_with_the_credentials_of_the_environment(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://robot:hunter2@host:5000")
        assert store_of(directory, None) == "http://robot:hunter2@host:5000"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://robot:hunter2@elsewhere")
        assert store_of(directory, None) == "http://host:5000"

    def test_an_old_record_says_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here")
        assert store_of(tmp_path, None) == "http://here"


def test_the_module_is_a_command() -> None:
    with pytest.raises(SystemExit) as ended:
        track.main([])
    assert ended.value.code == 2
