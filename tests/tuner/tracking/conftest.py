"""One database with MLflow's schema and one with a finished search, which take seconds to make; tests get copies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.tuner.tracking.searches import NAME, RUN, Store, ticking_journal, whole_search
from tuner.record.directory import RunDirectory
from tuner.record.journal import SearchJournal
from tuner.tracking.projection import Projection
from tuner.tracking.store import prepare_store


@contextmanager
def copied_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        yield


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """MLflow keeps its defaults in the environment; none of it is to reach other tests."""
    with copied_environment():
        yield


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's schema."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with copied_environment():
        prepare_store(f"sqlite:///{file}", "somebody-else")
    return file


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Store:
    """`whole_search`, written to MLflow; for tests that only read."""
    folder = tmp_path_factory.mktemp("finished")
    uri = f"sqlite:///{shutil.copy(empty_database, folder / 'mlflow.db')}"
    with copied_environment(), closing(ticking_journal(RunDirectory(folder / NAME / RUN))) as journal:
        whole_search(journal)
        Projection(uri, NAME, journal.directory).advance()
    return Store(uri)


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "experiments" / NAME / RUN)


@pytest.fixture
def journal(directory: RunDirectory) -> Iterator[SearchJournal]:
    with closing(ticking_journal(directory)) as journal:
        yield journal


@pytest.fixture
def projection(uri: str, directory: RunDirectory) -> Projection:
    return Projection(uri, NAME, directory)


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri)
