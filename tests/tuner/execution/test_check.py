"""Every place that an experiment writes to is tried before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tiny import space_of, write_yaml
from trainables.errors import BadInput
from tuner import search
from tuner.execution.check import check_with_places, output_problems
from tuner.execution.run_context import run_directory
from tuner.experiment.search_experiment import load_experiment

pytestmark = MLFLOW_LEAKS


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def problems_of(**tracking: Any) -> list[str]:
    space = space_of(tracking=tracking)
    try:
        check_with_places(space, lambda: True)
    except BadInput as bad:
        return [str(problem) for problem in bad.problems]
    return []


@pytest.mark.parametrize(
    ("tracking", "said"),
    [
        ({"directory": "/dev/null"}, "tiny.yaml: tracking.directory: expected a folder that can be written, got "),
        ({"directory": "/proc/none"}, "tiny.yaml: tracking.directory: expected a folder that can be written, got "),
        ({"mirror": "file:///proc/none"}, "tiny.yaml: tracking.mirror: expected a folder that can be written, got "),
        ({"uri": "sqlite:////proc/none/x.db"}, "tiny.yaml: tracking.uri: expected sqlite:///<file>, "),
        ({"uri": "sqlite:////dev/null"}, "tiny.yaml: tracking.uri: expected sqlite:///<file>, "),
        ({"uri": "sqlite:///folder"}, "tiny.yaml: tracking.uri: expected sqlite:///<file>, "),
        ({"uri": "sqlite://"}, "tiny.yaml: tracking.uri: expected sqlite:///<file>, "),
        ({"uri": "./mlruns"}, "tiny.yaml: tracking.uri: expected sqlite:///<file>, "),
    ],
)
def test_a_place_that_cannot_be_written_is_a_problem_of_its_key(
    tracking: dict[str, str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (problem,) = problems_of(**tracking)
    assert problem.startswith(said)


def test_places_that_can_be_made_are_not_made(tmp_path: Path) -> None:
    assert problems_of(mirror=f"file://{tmp_path}/copy", directory="runs/deep", uri="sqlite:///new/er.db") == []
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_the_environment_is_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    (problem,) = problems_of()
    assert problem.startswith("MLFLOW_TRACKING_URI: expected sqlite:///<file>, ")
    assert problem.endswith("got './mlruns'")
    assert problems_of(uri="sqlite:///x.db") == []


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("nowhere/x.json", "there is no folder 'nowhere'"),
        ("/dev/null/x.json", "there is no folder '/dev/null'"),
        ("/proc/x.json", "no such file or directory"),
        (".", "a folder"),
        ("-", "the standard output shows the progress"),
    ],
)
def test_a_file_that_is_asked_for_is_tried_too(file: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    space = str(write_yaml(Path.cwd()))
    assert search.main(["--space", space, "--dry-run", "--json", file]) == 2
    said = capsys.readouterr().err
    assert said == f"error: --json: expected a file that can be written, got {file!r}: {reason}\n"


def test_a_file_that_is_there_or_can_be_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    assert list(output_problems({"--json": Path("old.json"), "--output": Path("new.json")})) == []
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"old.json": "old"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trials", "0"], "error: --trials: expected a number above 0, got 0\n"),
        (["--name", "a/b"], "error: --name: expected a name of letters, "),
        (["--tracking-uri", "./mlruns"], "error: --tracking-uri: expected sqlite:///<file>, "),
        (["--set", "search.folds=1"], "error: --set search.folds: expected "),
        (
            ["--set", "method={choice: [{name: l2}, {name: mixup}]}", "--set", "method.name=l2"],
            "error: --set method.name: expected one alternative in the place of all, ",
        ),
        (
            ["--smoke", "--set", "data.dataset=imagefolder", "--set", "data.root=/no"],
            "error: --set data.root: expected ",
        ),
    ],
)
def test_what_a_flag_says_is_the_flags(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main(["--space", str(write_yaml(Path.cwd())), "--dry-run", *flags]) == 2
    assert capsys.readouterr().err.startswith(said)


def test_smoke_names_the_section_of_data_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    file = write_yaml(Path.cwd(), data={"dataset": "imagefolder", "root": "/nowhere/photos", "size_px": 32})
    assert search.main(["--space", str(file), "--smoke", "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}:4: data.root: expected an existing folder, got ")


def test_a_dry_run_of_resuming_looks_at_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--space", str(write_yaml(tmp_path)), "--resume", "--dry-run"]
    assert search.main(flags) == 2
    assert capsys.readouterr().err.startswith("error: --resume: expected an earlier run of 'tiny' in ")
    with run_directory(load_experiment(tmp_path / "tiny.yaml"), False, print) as directory:
        directory.journal.touch()
    assert search.main([*flags, "--set", "training.learning_rate=0.1"]) == 2
    assert "training.learning_rate: expected 0.01, its value when the search was started" in capsys.readouterr().err
