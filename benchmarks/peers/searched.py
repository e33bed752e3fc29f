"""The search of this project, or of a checkout of another commit, by its commands as a person types them.

With `budget=minutes` the search is given its minutes. `budget=trials` is for a commit that has no such setting: as many
trials as fill the time that its start and one retraining leave, which is more of them than its template's own number of
retrainings would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.arguments import from_arguments
from benchmarks.peers.photographs import Clock, PhotoTask, hand_in, splits_of

SPACE = "search_spaces/imagefolder.yaml"
NAME = "quality"
FOLDS = 3
"""Of a trial of the template."""
PHOTOS_AT_ONCE = 500
"""So that a command line has room for their names."""


@dataclass(frozen=True)
class SearchTask(PhotoTask):
    """A search by the commands in `checkout`; `settings` are further ones, as `key=value`, parted by spaces."""

    checkout: Path = Path()
    budget: str = "minutes"
    settings: str = ""


@dataclass(frozen=True)
class Search:
    """What a search left behind: its folder, what it printed, and how long its command ran, in seconds."""

    run: Path
    printed: tuple[str, ...]
    seconds: float


def main() -> None:
    """Runs the task."""
    task = from_arguments(SearchTask)
    with tempfile.TemporaryDirectory(prefix="searched-") as folder:
        search = run_search(task, settings_of(task, Path(folder)), Path(folder))
        _, test = splits_of(task.root)
        classes = classes_of(task, search.run / "model", test.files)
    hand_in(task, search.seconds, said_of(search), test.files, classes)


def settings_of(task: SearchTask, folder: Path) -> dict[str, Any]:
    """What is set for the search by its budget."""
    if task.budget == "minutes":
        return {"search.minutes": task.minutes}
    before_s, fold_s, after_s = Clock(task).known("template", lambda: seconds_of_parts(task, folder))
    timeout_s = 60 * task.minutes - before_s - after_s - fold_s
    if timeout_s < FOLDS * fold_s:  # no trial would end in time: one is trained, however long it takes
        return {"search.trials": 1, "retrain.seeds": 1}
    return {"search.trials": 1000, "search.timeout_s": round(timeout_s), "retrain.seeds": 1}


def seconds_of_parts(task: SearchTask, folder: Path) -> list[float]:
    """Of a search: from its start to its first trial, a fold beside another, and from its last fold to its end."""
    started_s = time.time()
    search = run_search(task, {"search.trials": 1, "search.folds": 2, "retrain.seeds": 1}, folder / "timed")
    events = [json.loads(line) for line in (search.run / "journal.jsonl").read_text().splitlines()]
    first_s = next(event["time_s"] for event in events if event["event"] == "trial_started")
    folds = [event for event in events if event["event"] == "fold_finished"]
    fold_s = max(event["result"]["duration_s"] for event in folds)
    return [first_s - started_s, fold_s, started_s + search.seconds - folds[-1]["time_s"]]


def search_command(task: SearchTask, settings: Mapping[str, Any], folder: Path) -> list[str]:
    """The command, with everything that it writes below `folder`."""
    given = {
        "name": NAME,
        "data.root": task.root,
        "data.size_px": task.size_px,
        "backbone.name": task.backbone,
        "search.seed": task.seed,
        "tracking.uri": f"sqlite:///{folder / 'mlflow.db'}",
        "tracking.directory": folder,
        **settings,
    }
    pairs = [f"{key}={value}" for key, value in given.items()] + task.settings.split()
    command = [sys.executable, "-m", "tuner.search", "--space", SPACE]
    return command + [argument for pair in pairs for argument in ("--set", pair)]


def run_search(task: SearchTask, settings: Mapping[str, Any], folder: Path) -> Search:
    """Runs it. Raises CalledProcessError if it finds nothing."""
    folder.mkdir(exist_ok=True)
    started_s = time.time()
    output = run_in(task.checkout, search_command(task, settings, folder))
    seconds = time.time() - started_s
    (run,) = (folder / NAME).iterdir()
    return Search(run, tuple(output.splitlines()), seconds)


def said_of(search: Search) -> str:
    """How many trials there were, and the best of them, from the lines with which the command closes."""
    closing = [" ".join(line.split()) for line in search.printed if line.startswith((f"{NAME}: ", "  best "))]
    return "; ".join(closing[-2:])


def classes_of(task: SearchTask, model: Path, files: Sequence[Path]) -> list[str]:
    """The class that the model sees in each image."""
    classes: list[str] = []
    for start in range(0, len(files), PHOTOS_AT_ONCE):
        photos = [str(file) for file in files[start : start + PHOTOS_AT_ONCE]]
        command = [sys.executable, "-m", "tuner.predict", "--model", str(model), "--top", "1", "--json", "--"]
        guesses = json.loads(run_in(task.checkout, [*command, *photos]))
        classes += [guesses[photo][0]["class_name"] for photo in photos]
    return classes


def run_in(checkout: Path, command: Sequence[str]) -> str:
    """What a command prints, with the packages of `checkout`; printed here, too. Raises CalledProcessError."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    lines = []
    with subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return "".join(lines)


if __name__ == "__main__":
    main()
