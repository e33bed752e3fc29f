from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tuner
from tuner import stop
from tuner.__main__ import main
from tuner.cli.commands import COMMANDS, command_parser
from tuner.messages.invocation import PROGRAM

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "mlflow", "optuna", "pandas", "plotly", "sklearn", "timm", "numpy", "yaml", "pydantic", "rich")


def test_the_commands_are_the_modules_at_the_top() -> None:
    modules = {path.stem for path in (ROOT / "tuner").glob("*.py")} - {"__init__", "__main__"}
    assert set(COMMANDS) == modules


def test_the_console_script_is_named_in_the_metadata() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {PROGRAM: "tuner.__main__:main"}


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tuner.__main__ import main\ntry:\n    main(['--help'])\nfinally:\n"
        f"    print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == ""
    for command, description in COMMANDS.items():
        assert f"  {command} " in ended.stdout
        assert description in ended.stdout


def test_the_arguments_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def note(argv: list[str]) -> int:
        given.append(argv)
        return 1

    monkeypatch.setattr(stop, "main", note)
    assert main(["stop", "--help", "name", "--version", "--", "-x"]) == 1
    assert given == [["--help", "name", "--version", "--", "-x"]]


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("/somewhere/bin/smile-tuner", "/somewhere/bin/smile-tuner list"),
        ("/somewhere/tuner/__main__.py", "python -m tuner list"),
        ("/somewhere/tuner/list.py", "python -m tuner.list"),
        ("/somewhere/pytest/__main__.py", "python -m tuner.list"),
    ],
)
def test_the_help_says_what_was_typed(program: str, typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    assert command_parser("list").format_usage() == f"usage: {typed} [-h]\n"


def test_a_mistyped_command_is_said_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serach"])
    assert ended.value.code == 2
    assert "got 'serach' (did you mean 'search'?)" in capsys.readouterr().err


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_the_version_is_that_of_the_metadata(capsys: pytest.CaptureFixture[str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tuner.__version__ == version
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"smile-tuner {version}\n"


def test_the_package_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="no attribute 'versoin'"):
        tuner.versoin  # noqa: B018


@pytest.mark.parametrize(("command", "name"), [("methods", "smile"), ("datasets", "digits")])
def test_names_are_listed_with_a_summary(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--json"]) == 0
    summaries = json.loads(capsys.readouterr().out)
    assert summaries[name]
    assert main([command]) == 0
    width = max(map(len, summaries))
    lines = [f"{name:<{width}}  {summary}" for name, summary in summaries.items()]
    assert capsys.readouterr().out.splitlines() == lines


class TestBackbones:
    def test_those_that_match_are_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["backbones", "*/efficientnet_lite0"]) == 0
        assert capsys.readouterr().out == "package/efficientnet_lite0\n"
        assert main(["backbones", "*/efficientnet_lite0", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == ["package/efficientnet_lite0"]

    def test_a_pattern_that_none_matches_is_bad_input(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["backbones", "efficientnet_lite00"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(
            "error: PATTERN: expected a pattern that a backbone's name matches, got 'efficientnet_lite00'"
        )
        assert "did you mean" in said
