"""How a run that was cut off is resumed."""

from __future__ import annotations

from pathlib import Path

from tests.tuner.tiny import space_of
from tuner.cli.session import resuming_command
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
