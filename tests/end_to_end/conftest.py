"""The service as a user drives it: real processes, real Ray, a real MLflow store, each in a folder of its own.

A search of this size costs about a minute on two cores, most of it the start of Ray and its workers; so each is run
once and looked at from many sides. Each module belongs to one of two groups (`tests/groups.py`), so that two processes
of pytest run both at once; the tests of a group share what they look at.
"""

from __future__ import annotations

import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.end_to_end.commands import Run, run_process
from tests.end_to_end.forked import fork_server
from tests.end_to_end.space import write_photos, write_space

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """What starts processes that have imported everything; for tests that change their own environment."""
    return fork_server()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos; none may be changed."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Run:
    """A search from its beginning to its end."""
    folder = tmp_path_factory.mktemp("finished")
    write_space(folder, photos)
    return run_process("tuner.search", "--space", "tiny.yaml", "--json", "outcome.json", folder=folder)
