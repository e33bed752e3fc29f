from __future__ import annotations

import os

import pytest

from benchmarks.worker_environment import main
from tuner.resources.worker_environment import WORKER_ENVIRONMENT


def test_the_command_has_the_workers_variables_and_those_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(os, "execvpe", lambda *arguments: calls.append(arguments))
    for name in WORKER_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    main(["python", "-m", "benchmarks.bench", "--quick"])
    ((file, command, environment),) = calls
    assert (file, command) == ("python", ["python", "-m", "benchmarks.bench", "--quick"])
    assert {name: environment[name] for name in WORKER_ENVIRONMENT} == {
        **WORKER_ENVIRONMENT,
        "OMP_WAIT_POLICY": "ACTIVE",
    }
    assert environment["PATH"] == os.environ["PATH"]


def test_without_a_command_it_says_how_it_is_used() -> None:
    with pytest.raises(SystemExit, match=r"usage: python -m benchmarks.worker_environment COMMAND"):
        main([])
