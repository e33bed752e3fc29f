"""Commands that are printed work in the shell in which the running one was given."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.messages.invocation import command_line, interpreter, invocation, module_line

ROOT = Path(__file__).parents[3]


def program(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_in_an_activated_environment_python_is_a_name() -> None:
    assert command_line("report", "my runs/a") == "python -m tuner.report 'my runs/a'"
    assert module_line("deploy.submit", "list") == "python -m deploy.submit list"


def test_without_activation_the_interpreter_is_a_path(
    bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    itself = program(tmp_path / "my project" / ".venv" / "bin", "python")
    monkeypatch.setattr(sys, "executable", str(itself))
    assert command_line("list") == f"'{itself}' -m tuner.list"
    monkeypatch.chdir(tmp_path / "my project")
    assert command_line("list") == ".venv/bin/python -m tuner.list"
    monkeypatch.chdir(itself.parent)
    assert command_line("list") == "./python -m tuner.list"


def test_the_python_of_another_environment_is_not_taken_for_this_one(
    bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are links to one program."""
    system = program(tmp_path / "usr", "python3.12")
    (bare_path / "python").symlink_to(system)
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "python").symlink_to(system)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    assert interpreter() == str(tmp_path / "venv" / "python")
    monkeypatch.setattr(sys, "executable", str(bare_path / "python"))
    assert interpreter() == "python"


def test_the_script_is_a_name_where_a_shell_finds_it(
    bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(program(bare_path, "smile-tuner")), "list"])
    assert command_line("ui", "--port", 5001) == "smile-tuner ui --port 5001"
    monkeypatch.setattr(sys, "argv", [str(program(tmp_path / "elsewhere", "smile-tuner")), "list"])
    assert invocation() == f"{tmp_path}/elsewhere/smile-tuner "


def test_a_working_folder_that_is_gone_is_no_error(
    bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert interpreter() == shlex.quote(sys.executable)


def test_what_is_printed_runs_in_the_shell_without_activation(tmp_path: Path) -> None:
    code = "from tuner.messages.invocation import command_line; print(command_line('list', '--help'))"
    environment = os.environ | {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    ended = subprocess.run(["sh", "-c", printed], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "List searches" in ended.stdout


def test_plugins_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMILE_TUNER_PLUGINS", f"/my/a.py{os.pathsep}/my own/b.py")
    assert command_line("report", "run") == "python -m tuner.report run --plugin /my/a.py --plugin '/my own/b.py'"
    assert command_line("stop", "run") == "python -m tuner.stop run"
