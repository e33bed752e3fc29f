"""How a run that was cut off is resumed, and which signals cut it off."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from rich.console import Console

from tests.tuner.tiny import search_journal, search_started, space_of
from tuner.cli.search_progress import SearchProgress
from tuner.cli.session import resuming_command, run_guarded, stop_on_signals
from tuner.execution.run_context import RunContext, SearchContext, run_directory
from tuner.experiment.search_experiment import load_experiment
from tuner.record.background import BackgroundSync, OnProgress
from tuner.record.directory import RunDirectory
from tuner.resources.share import Share


def test_how_to_go_on_reads_back_to_the_same_experiment(tmp_path: Path) -> None:
    space = space_of(tracking__directory=str(tmp_path / "my runs"), training__num_steps=7)
    with run_directory(space, False, print) as directory:
        directory.journal.touch()
    command = resuming_command("search", directory, "10.0.0.1:6379", "sqlite:///x.db")
    assert command.endswith(f"--space '{directory}/space.yaml' --address 10.0.0.1:6379 --resume")
    recorded = load_experiment(directory.space)
    with run_directory(recorded, True, print) as again:
        assert again == directory


def test_a_password_is_not_repeated_but_asked_for() -> None:
    command = resuming_command("search", RunDirectory(Path("run")), None, "https://me:secret@host")
    assert "--tracking-uri <with its credentials>" in command
    assert "secret" not in command


@pytest.mark.parametrize(
    ("error", "said"), [(KeyboardInterrupt(), "interrupted: "), (RuntimeError("the cluster is gone"), "error: ")]
)
def test_the_advice_is_the_last_on_the_screen(error: BaseException, said: str, tmp_path: Path) -> None:
    shown = io.StringIO()
    space = space_of()

    def body() -> None:
        raise error

    with closing(search_journal(tmp_path / "run")) as journal:
        journal.append(search_started(space))
        context = SimpleNamespace(directory=journal.directory, journal=journal, uri="sqlite:///x.db")
        console = Console(file=shown, force_terminal=True, width=80, highlight=False)
        with SearchProgress(console, space, num_trials=4, concurrency=2) as progress:
            progress.enter_phase("searching")
            assert run_guarded("search", cast(Any, context), None, progress, body) is None
        lines = [line for line in shown.getvalue().splitlines() if line.strip("\x1b[?25h\r")]
    reason = " ".join(lines[:-2])  # of which a path that does not fit beside the rest is the last
    assert said in reason
    assert str(tmp_path / "run") in reason.rpartition(said)[2]
    assert f"python -m tuner.report {tmp_path / 'run'}" in lines[-2]
    assert lines[-1].endswith(f"go on with: python -m tuner.search --space {tmp_path / 'run'}/space.yaml --resume")


class Nothing:
    def advance(self, on_progress: OnProgress) -> None:
        pass


@pytest.fixture
def context(tmp_path: Path) -> Iterator[SearchContext]:
    sync = BackgroundSync(Nothing())
    with closing(search_journal(tmp_path / "run")) as journal:
        journal.append(search_started())
        yield RunContext(journal.directory, "sqlite:///x.db", Share(1, 0, 1), journal, sync)
    sync.close(1)


def lines_of(context: SearchContext, body: Callable[[], NoReturn]) -> list[str]:
    screen = io.StringIO()
    progress = SearchProgress(Console(file=screen, width=200), space_of(), 2, 1)
    assert run_guarded("search", context, None, progress, body) is None
    return [line.partition("] ")[2] for line in screen.getvalue().splitlines()]


def test_a_search_that_fails_says_why_and_how_to_go_on(context: SearchContext) -> None:
    def fail() -> NoReturn:
        raise OSError(28, "No space left on device")

    directory = context.directory
    assert lines_of(context, fail) == [
        f"error: OSError: [Errno 28] No space left on device; the log is in {directory.logs}",
        f"see its results so far: python -m tuner.report {directory}",
        f"go on with: python -m tuner.search --space {directory.space} --resume",
    ]


def test_one_whose_record_was_removed_promises_nothing(context: SearchContext) -> None:
    def append() -> NoReturn:
        shutil.rmtree(context.directory)
        context.journal.append(search_started())
        raise AssertionError("it was appended")

    error, end = lines_of(context, append)
    assert error.startswith("error: FileNotFoundError: ")
    assert "removed or replaced" in error
    assert end == f"there is no record to go on with: {context.directory} was removed"


class TestSignals:
    @pytest.fixture(autouse=True)
    def handlers_as_before(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_interrupt_the_search(self, number: signal.Signals) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        stop_on_signals()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)

    def test_a_terminal_that_is_closed_interrupts_once(self) -> None:
        """The kernel and the shell may both say so; the second would interrupt the record of the first."""
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        stop_on_signals()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)

    def test_nohup_still_counts(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop_on_signals()
        os.kill(os.getpid(), signal.SIGHUP)
