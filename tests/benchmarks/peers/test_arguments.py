from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from benchmarks.peers import arguments
from benchmarks.peers.arguments import as_arguments, from_arguments
from benchmarks.peers.task import Task


@pytest.mark.parametrize("task", [Task(Path("a folder"), mirrored=False, learning_rate=1e-3, seed=7), Task(Path())])
def test_a_process_reads_what_another_has_written(task: Task) -> None:
    assert from_arguments(Task, as_arguments(task)) == task


def test_nothing_is_left_to_a_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        from_arguments(Task, as_arguments(Task(Path()))[1:])
    assert "--root" in capsys.readouterr().err


def test_examples() -> None:
    assert doctest.testmod(arguments).failed == 0
