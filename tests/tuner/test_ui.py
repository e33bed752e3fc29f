"""The server behind `python -m tuner.ui`."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tuner import ui


def test_one_worker_on_this_machine_only() -> None:
    command = ui.server_command("sqlite:////x/mlflow.db", 5001)
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert options == {
        "--backend-store-uri": "sqlite:////x/mlflow.db",
        "--registry-store-uri": "sqlite:////x/mlflow.db",
        "--host": "127.0.0.1",
        "--port": "5001",
        "--workers": "1",
        "--uvicorn-opts": "--log-level warning --no-access-log",
    }


def test_no_job_runner() -> None:
    assert ui.server_environment({"PATH": "/bin"}) == {
        "PATH": "/bin",
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    assert ui.server_environment({"PYTHONWARNINGS": "error"})["PYTHONWARNINGS"] == "error"


def test_a_server_has_its_own_ui(capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--tracking-uri", "http://127.0.0.1:9"]) == 2
    assert "--tracking-uri: expected a database" in capsys.readouterr().err


def test_the_process_becomes_the_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr("tuner.tracking.store.check_is_store", lambda uri, where: None)
    monkeypatch.setattr("tuner.tracking.store.prepare_store", lambda uri, name: "0")
    monkeypatch.setattr(ui, "check_port", lambda port: None)
    monkeypatch.setattr("tuner.tracking.ui_views.latest_page", lambda uri: "#/experiments/1/runs")
    monkeypatch.setattr(os, "execve", lambda program, command, environment: became.append(command))
    ui.main(["--tracking-uri", "sqlite:////x/mlflow.db", "--port", "5001"])
    assert became == [ui.server_command("sqlite:////x/mlflow.db", 5001)]
    assert capsys.readouterr().out == "http://127.0.0.1:5001/#/experiments/1/runs\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_is_said_and_no_address(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        assert ui.main(["--port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert f"--port: expected a free port, as --port {port + 1}, got {port}: address already in use" in err
    assert "http" not in out + err


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_is_a_number_that_there_is(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--port", str(port)]) == 2
    assert f"--port: expected a port from 1 to 65535, got {port}" in capsys.readouterr().err


def test_a_mistyped_store_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "check_port", lambda port: None)
    store = tmp_path / "mflow.db"
    assert ui.main(["--tracking-uri", f"sqlite:///{store}"]) == 2
    expected = f"--tracking-uri: expected a store that a search has made, got 'sqlite:///{store}': no such file"
    assert expected in capsys.readouterr().err
    assert not store.exists()
