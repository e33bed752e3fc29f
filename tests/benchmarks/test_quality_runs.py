from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import quality_runs
from benchmarks.peers.arguments import from_arguments
from benchmarks.peers.photographs import PhotoTask, splits_of
from benchmarks.peers.searched import SearchTask
from benchmarks.quality_runs import (
    CONTESTANTS,
    OURS,
    PEERS,
    THIRD,
    Record,
    Run,
    Setup,
    check_out,
    command_of,
    make_all,
    make_run,
    marks_of,
    planned,
    reason_to_skip,
    task_of,
    version_here,
)
from tests.benchmarks.photographs import written_pictures

HAND_IN = """
import json, os, sys, pathlib
environment = [name for name in ("OMP_NUM_THREADS", "TUNER_CACHE") if name in os.environ]
predicted = {f"test/{name}/{number}.png": "red" for name in ("blue", "red") for number in range(3)}
pathlib.Path(sys.argv[1]).write_text(json.dumps({"seconds": 7.5, "said": str(environment), "predicted": predicted}))
"""


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(
        minutes=3.0,
        size_px=64,
        backbone="package/efficientnet_lite0",
        settings=("search.trials=2", "retrain.seeds=1"),
        version="abc",
        fastai_python="python-with-fastai",
        template=tmp_path / "template",
        work=tmp_path,
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return written_pictures(tmp_path / "photos")


def test_every_contestant_has_a_module_and_the_issues_lead() -> None:
    assert {name: CONTESTANTS[name].lead_points for name in PEERS} == {
        "linear_probe": 4.0,
        "fastai": 3.0,
        "tune_optuna": 3.0,
        "template": 3.0,
    }
    folder = Path(quality_runs.__file__).parent / "peers"
    assert all((folder / f"{each.module}.py").is_file() for each in CONTESTANTS.values())


@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_command_says_all_of_the_task(name: str, setup: Setup, photos: Path, tmp_path: Path) -> None:
    contestant = CONTESTANTS[name]
    task = task_of(setup, contestant, photos, seed=4, out=tmp_path / "out.json")
    python, *options, module = (command := command_of(setup, contestant, task))[:5]
    assert python == ("python-with-fastai" if name == "fastai" else sys.executable)
    assert (*options, module) == ("-W", "ignore", "-m", f"benchmarks.peers.{contestant.module}")
    assert from_arguments(type(task), command[5:]) == task
    assert (task.root, task.seed, task.size_px) == (photos, 4, 64)
    assert task.minutes == (1.0 if name == THIRD else 3.0)


def test_searches_differ_by_checkout_and_budget(setup: Setup, photos: Path, tmp_path: Path) -> None:
    tasks = {name: task_of(setup, CONTESTANTS[name], photos, 0, tmp_path) for name in (OURS, THIRD, "template")}
    found = {
        name: (task.checkout, task.budget, task.settings)
        for name, task in tasks.items()
        if isinstance(task, SearchTask)
    }
    own = (quality_runs.ROOT, "minutes", "search.trials=2 retrain.seeds=1")
    assert found == {OURS: own, THIRD: own, "template": (setup.template, "trials", "")}


def test_marks_are_by_file_and_whole(photos: Path) -> None:
    _, test = splits_of(photos)
    predicted = {file.relative_to(photos).as_posix(): "blue" for file in test.files}
    predicted["test/red/1.png"] = "red"
    assert marks_of(predicted, test, photos) == "111010"
    del predicted["test/red/1.png"]
    with pytest.raises(ValueError, match="1 test photographs lack one, 0 are of no test photograph"):
        marks_of(predicted, test, photos)
    with pytest.raises(ValueError, match="1 test photographs lack one, 1 are of no test photograph"):
        marks_of(predicted | {"train/red/1.png": "red"}, test, photos)


def stand_in(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Runs `script` with the name of the file to hand in, in the place of a contestant."""

    def command(setup: Setup, contestant: object, task: PhotoTask) -> list[str]:
        return [sys.executable, "-c", script, str(task.out)]

    monkeypatch.setattr(quality_runs, "command_of", command)


def test_a_run_is_scored_from_what_is_handed_in(setup: Setup, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, HAND_IN)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = make_run(setup, photos, planned(setup, photos, "fastai", 1))
    assert (run.folder, run.contestant, run.seed, run.seconds) == ("photos", "fastai", 1, 7.5)
    assert (run.correct, run.top1, run.failed) == ("000111", 0.5, "")
    assert run.said == "['TUNER_CACHE']"  # each starts with an empty cache, and with the threads that it chooses


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('what it said'); raise SystemExit(3)", "exit code 3"),
        (HAND_IN.replace("range(3)", "range(2)"), "predictions: 2 test photographs lack one"),
        ("import signal; signal.pause()", "no end within 0 s"),
    ],
)
def test_a_run_that_fails_says_why(
    script: str, reason: str, setup: Setup, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, script)
    if "pause" in script:
        monkeypatch.setattr(quality_runs, "limit_s_of", lambda _: 0.0)
    run = make_run(setup, photos, planned(setup, photos, "fastai", 0))
    assert run.failed.startswith(reason)


def test_what_a_broken_contestant_said_is_shown(
    setup: Setup, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "print('what it said'); raise SystemExit(3)")
    make_run(setup, photos, planned(setup, photos, "fastai", 0))
    assert capsys.readouterr().out == "what it said\n"


def test_runs_on_record_are_not_repeated(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    made: list[tuple[object, ...]] = []

    def made_up(setup: Setup, root: Path, plan: Run) -> Run:
        made.append((plan.seed, root.name, plan.contestant))
        return replace(plan, correct="10", failed="exit code 1" if plan.contestant == "template" else "")

    monkeypatch.setattr(quality_runs, "make_run", made_up)
    names, file = [OURS, "fastai", "template"], tmp_path / "runs.json"
    runs = make_all(setup, roots, [0, 1], names, Record(file))
    in_turn = [(seed, root.name, name) for seed in (0, 1) for root in roots for name in names]
    assert made == in_turn
    made.clear()
    again = make_all(setup, roots, [0, 1], names, Record(file))
    assert made == [each for each in in_turn if each[2] == "template"]
    assert again == runs
    made.clear()
    make_all(replace(setup, version="def"), roots[:1], [0], names[:2], Record(file))
    assert made == [(0, "one", OURS)]
    made.clear()
    make_all(replace(setup, minutes=4.0), roots[:1], [0], ["fastai"], Record(file))
    assert made == [(0, "one", "fastai")]


def test_uncommitted_files_are_another_version_each_time(setup: Setup, photos: Path) -> None:
    record = Record(None)
    for name in (OURS, "fastai"):
        record.add(planned(replace(setup, version="abc-dirty"), photos, name, 0))
    assert record.find(planned(replace(setup, version="abc-dirty"), photos, OURS, 0)) is None
    assert record.find(planned(setup, photos, "fastai", 0)) is not None


def test_who_cannot_take_part_has_a_reason(setup: Setup, tmp_path: Path) -> None:
    lacking = tmp_path / "python"
    lacking.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'fastai'\" >&2\nexit 1\n")
    lacking.chmod(0o755)
    reason = reason_to_skip(replace(setup, fastai_python=str(lacking)), "fastai")
    assert reason == "fastai is not to be had (ModuleNotFoundError: No module named 'fastai'): pip install '.[bench]'"
    assert reason_to_skip(setup, "linear_probe") == ""
    assert "commit 0123456789 is not in this checkout" in check_out("0123456789", tmp_path / "old")


def test_a_commit_is_checked_out_beside_this_one(tmp_path: Path) -> None:
    if version_here() == "unknown-dirty":
        pytest.skip("no git repository here")
    assert check_out("HEAD", tmp_path / "head") == ""
    assert (tmp_path / "head" / "search_spaces" / "imagefolder.yaml").is_file()
