from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import searched
from benchmarks.peers.searched import (
    NAME,
    SPACE,
    Search,
    SearchTask,
    classes_of,
    said_of,
    search_command,
    seconds_of_parts,
    settings_of,
)
from tests.benchmarks.photographs import written_pictures
from tuner.search import parser

RUN = "20261129-101500-ab12"


@pytest.fixture
def task(tmp_path: Path) -> SearchTask:
    return SearchTask(
        root=written_pictures(tmp_path / "photos"),
        out=tmp_path / "out.json",
        kept=tmp_path / "kept",
        minutes=10.0,
        seed=4,
        started_s=0.0,
        checkout=tmp_path / "checkout",
        budget="trials",
        settings="search.folds=2 retrain.seeds=2",
    )


def known(task: SearchTask, *seconds: float) -> None:
    task.kept.mkdir()
    (task.kept / "template.json").write_text(json.dumps(seconds))


def test_the_command_is_one_that_a_person_types(task: SearchTask, tmp_path: Path) -> None:
    command = search_command(task, {"search.minutes": 10.0}, tmp_path)
    assert command[:3] == [sys.executable, "-m", "tuner.search"]
    assert str(parser().parse_args(command[3:]).space) == SPACE
    assert dict(pair.split("=", 1) for pair in command[6::2]) == {
        "name": NAME,
        "data.root": str(task.root),
        "data.size_px": "128",
        "backbone.name": "package/efficientnet_lite0",
        "search.seed": "4",
        "search.minutes": "10.0",
        "search.folds": "2",
        "retrain.seeds": "2",
        "tracking.uri": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "tracking.directory": str(tmp_path),
    }


def test_minutes_are_left_to_the_search(task: SearchTask, tmp_path: Path) -> None:
    assert settings_of(replace(task, budget="minutes"), tmp_path) == {"search.minutes": 10.0}


def test_trials_fill_what_start_retraining_and_a_last_fold_leave(task: SearchTask, tmp_path: Path) -> None:
    known(task, 15.0, 60.0, 75.0)
    assert settings_of(task, tmp_path) == {"search.trials": 1000, "search.timeout_s": 450, "retrain.seeds": 1}


def test_one_trial_is_trained_however_long_it_takes(task: SearchTask, tmp_path: Path) -> None:
    known(task, 15.0, 130.0, 75.0)
    assert settings_of(task, tmp_path) == {"search.trials": 1, "retrain.seeds": 1}


def test_the_parts_of_a_search_are_read_from_its_journal(
    task: SearchTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", iter([100.0, 101.0, 161.0]).__next__)
    events = [
        {"event": "search_started", "time_s": 110.0},
        {"event": "trial_started", "time_s": 112.0},
        {"event": "fold_finished", "time_s": 130.0, "result": {"duration_s": 17.0}},
        {"event": "fold_finished", "time_s": 133.0, "result": {"duration_s": 19.0}},
        {"event": "retraining_finished", "time_s": 150.0},
    ]

    def run_in(checkout: Path, command: list[str]) -> str:
        assert {"search.trials=1", "search.folds=2", "retrain.seeds=1"} <= set(command)
        run = tmp_path / "timed" / NAME / RUN
        run.mkdir(parents=True)
        (run / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        return ""

    monkeypatch.setattr(searched, "run_in", run_in)
    assert seconds_of_parts(task, tmp_path) == [12.0, 19.0, 27.0]


def test_the_closing_lines_say_what_was_found() -> None:
    printed = (
        "quality: 6 trials × 3 folds",
        "[0:00] searching",
        "quality: 4 complete trials in 3:21",
        "  best    trial-2",
    )
    search = Search(Path("run"), (*printed, "  validation  top-1 0.5"), 201.0)
    assert said_of(search) == "quality: 4 complete trials in 3:21; best trial-2"


def test_classes_are_asked_for_by_the_command(task: SearchTask, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run_in(checkout: Path, command: list[str]) -> str:
        commands.append(command)
        photos = command[command.index("--") + 1 :]
        return json.dumps({photo: [{"class_name": Path(photo).stem, "probability": 0.5}] for photo in photos})

    monkeypatch.setattr(searched, "run_in", run_in)
    monkeypatch.setattr(searched, "PHOTOS_AT_ONCE", 2)
    assert classes_of(task, Path("run/model"), [Path(f"{name}.png") for name in "abc"]) == ["a", "b", "c"]
    assert [command[1:7] for command in commands] == [["-m", "tuner.predict", "--model", "run/model", "--top", "1"]] * 2


def test_a_checkout_has_its_own_packages(tmp_path: Path) -> None:
    (tmp_path / "tuner").mkdir()
    (tmp_path / "tuner" / "search.py").write_text("print('of the other commit')")
    assert searched.run_in(tmp_path, [sys.executable, "-m", "tuner.search"]) == "of the other commit\n"
