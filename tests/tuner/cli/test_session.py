"""How a run that was cut off is resumed."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from tests.tuner.tiny import search_journal, search_started, space_of
from tuner.cli.search_progress import SearchProgress
from tuner.cli.session import resuming_command, run_guarded
from tuner.execution.run_context import run_directory
from tuner.experiment.search_experiment import load_experiment
from tuner.record.directory import RunDirectory


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
    assert said in lines[-3]
    assert f"python -m tuner.report {tmp_path / 'run'}" in lines[-2]
    assert lines[-1].endswith(f"go on with: python -m tuner.search --space {tmp_path / 'run'}/space.yaml --resume")
