"""What holds for every test: none writes into the home of a person; those that share searches share a process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tells xdist which tests belong together; see `tests/groups.py`."""
    from tests.groups import GroupScheduling

    return GroupScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images of these tests, and of the processes that they start, stay among pytest's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("TUNER_CACHE_GB", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def hangups_are_not_ignored() -> Iterator[None]:
    """Under `nohup` commands would ignore that their terminal is closed: processes inherit that, but no handler."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session", autouse=True)
def activated() -> Iterator[None]:
    """The environment of the tests is activated, as a person's is: commands that are printed begin with `python`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        yield


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No plugin is known before the test, and none of its own after it: another's may have the same name."""
    from trainables import plugins

    def forget() -> None:
        plugins._found.cache_clear()
        for name in [name for name in sys.modules if name.startswith(plugins.MODULE_PREFIX)]:
            del sys.modules[name]

    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    forget()
    yield
    forget()
