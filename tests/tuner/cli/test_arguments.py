from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainables.errors import BadInput, Problem
from trainables.plugins import VARIABLE, plugin_files
from tuner import search
from tuner.cli.arguments import guarded, key_value, parse_arguments, resolve_space_file

CONTRACT = {
    "--help": "",
    "--space": "FILE",
    "--set": "KEY=VALUE",
    "--trials": "N",
    "--warm-start": "RUN",
    "--address": "ADDRESS",
    "--tracking-uri": "URI",
    "--name": "NAME",
    "--resume": "RUN",
    "--dry-run": "",
    "--smoke": "",
    "--json": "FILE",
    "--plugin": "FILE",
}
"""The flags of the search command and what each takes. Scripts rely on them: a new setting belongs in the YAML."""


def test_the_flags_are_the_contract() -> None:
    flags = {action.option_strings[-1]: action.metavar or "" for action in search.parser()._actions}
    assert flags == CONTRACT


def test_only_the_space_is_required() -> None:
    arguments = search.parser().parse_args(["--space", "x.yaml"])
    assert vars(arguments) | {"space": None} == {
        "space": None,
        "set": [],
        "trials": None,
        "warm_start": None,
        "address": None,
        "tracking_uri": None,
        "name": None,
        "resume": False,
        "dry_run": False,
        "smoke": False,
        "json": None,
        "plugin": [],
    }


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--resume"],
        ["--space", "x", "--resume", "run"],
        ["--space", "x", "--sett", "a=1"],
        ["--space", "x", "--trials", "many"],
    ],
)
def test_a_wrong_command_line_is_bad_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        search.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m tuner.search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("data.root=/photos", "data.root", "/photos"),
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        ("data.flip=false", "data.flip", False),
        ("data.root=", "data.root", None),
        ("a=b=c", "a", "b=c"),
        ("method.alpha={uniform: [0.1, 1]}", "method.alpha", {"uniform": [0.1, 1]}),
    ],
)
def test_values_are_read_as_yaml(text: str, key: str, value: Any) -> None:
    assert key_value(text) == (key, value)


@pytest.mark.parametrize("text", ["data.root", "=3", "a=[1", "a={x: 1, x: 2}"])
def test_what_is_no_key_and_value_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        key_value(text)


def test_every_problem_is_a_line_and_the_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise BadInput([Problem("a", "b", "c", "x.yaml"), Problem("d", "e", "f")])

    assert guarded(command) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: x.yaml: a: expected b, got c",
        "error: d: expected e, got f",
        "2 problems; nothing was started",
    ]


def test_ctrl_c_before_anything_runs_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert guarded(command) == 1
    assert capsys.readouterr().err == "interrupted\n"


def test_a_commands_own_exit_code_is_kept() -> None:
    assert guarded(lambda: 0) == 0


class TestResumeByName:
    @pytest.mark.parametrize("said", ["tiny", "tiny/2026-b", "experiments/tiny/2026-b"])
    def test_the_file_is_the_record_of_the_run(
        self, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for run in ("2026-a", "2026-b"):
            (tmp_path / "experiments" / "tiny" / run).mkdir(parents=True)
            (tmp_path / "experiments" / "tiny" / run / "journal.jsonl").touch()
        arguments = resolve_space_file(parse_arguments(search.parser(), ["--resume", said]))
        assert arguments.space == tmp_path / "experiments" / "tiny" / "2026-b" / "space.yaml"

    @pytest.mark.parametrize("words", [["--resume", "tiny"], ["--space", "experiments/tiny/a/space.yaml", "--resume"]])
    def test_the_plugins_that_are_recorded_are_used(
        self, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(VARIABLE, "")
        run = tmp_path / "experiments" / "tiny" / "a"
        (run / "plugins").mkdir(parents=True)
        for file in ("journal.jsonl", "space.yaml", "plugins/focal.py"):
            (run / file).touch()
        resolve_space_file(parse_arguments(search.parser(), words))
        assert [file.resolve() for file in plugin_files()] == [run / "plugins" / "focal.py"]

    def test_an_unknown_one_is_bad_input(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["--resume", "none", "--set", f"tracking.directory={tmp_path}"]
        assert search.main(arguments) == 2
        assert f"error: --resume: expected a name, a name/run below {tmp_path}" in capsys.readouterr().err


def test_a_packaged_experiment_is_given_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = resolve_space_file(parse_arguments(search.parser(), ["--space", "smile"])).space
    assert space == Path(__file__).parents[3] / "search_spaces" / "smile.yaml"


def test_a_space_that_there_is_not_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main(["--space", "smlie"]) == 2
    assert "error: --space: expected an experiment file, or the name of a packaged one" in capsys.readouterr().err


LONG_OUTPUT = """
import sys
from tuner.cli.arguments import guarded

def command():
    for number in range(int(sys.argv[1])):
        print("line", number)
    return int(sys.argv[2])

sys.exit(guarded(command))
"""


@pytest.mark.parametrize("num_lines", [3, 100_000])
def test_a_reader_may_leave_early(num_lines: int) -> None:
    """While the command prints, or before what it has printed is flushed."""
    pipe = f"{sys.executable} -c '{LONG_OUTPUT}' {num_lines} 0 | head -n 1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", pipe], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120, check=True
    )
    assert (ended.stdout, ended.stderr) == ("line 0\n0\n", "")


def test_a_broken_pipe_of_something_else_is_an_error() -> None:
    def command() -> int:
        raise BrokenPipeError("to a server")

    with pytest.raises(BrokenPipeError):
        guarded(command)
