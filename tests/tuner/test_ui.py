"""The server behind `python -m tuner.ui`."""

from __future__ import annotations

import os
import sys

import pytest

from tuner import ui


def test_one_worker_on_this_machine_only() -> None:
    command = ui.server_command("sqlite:////x/mlflow.db", 5001)
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert options == {
        "--backend-store-uri": "sqlite:////x/mlflow.db",
        "--host": "127.0.0.1",
        "--port": "5001",
        "--workers": "1",
    }


def test_no_job_runner() -> None:
    assert ui.server_environment({"PATH": "/bin"}) == {
        "PATH": "/bin",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def test_a_server_has_its_own_ui(capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--tracking-uri", "http://127.0.0.1:9"]) == 2
    assert "--tracking-uri: expected a database" in capsys.readouterr().err


def test_the_process_becomes_the_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr("tuner.tracking.store.prepare_store", lambda uri, name: "0")
    monkeypatch.setattr("tuner.tracking.ui_views.pages_of_searches", lambda uri: {"digits": "#/experiments/1/runs"})
    monkeypatch.setattr(os, "execve", lambda program, command, environment: became.append(command))
    ui.main(["--tracking-uri", "sqlite:////x/mlflow.db", "--port", "5001"])
    assert became == [ui.server_command("sqlite:////x/mlflow.db", 5001)]
    assert capsys.readouterr().out.splitlines() == [
        "MLflow UI of sqlite:////x/mlflow.db: http://127.0.0.1:5001  (Ctrl-C ends it)",
        "  digits: http://127.0.0.1:5001/#/experiments/1/runs",
    ]
