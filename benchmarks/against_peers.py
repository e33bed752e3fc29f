"""This project against what else one would write (benchmarks/peers/): `python -m benchmarks.against_peers`.

All three search SMILE's four hyper-parameters on the same images, with the same network, folds and budget, one after
the other on this machine. A figure is the time at which the peer's best cross-validated score reaches the lower of the
two final ones, over the time at which ours does, both from the start of the command. Without `--root FOLDER`, which
holds train/, the images are scikit-learn's digits, written to files.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from PIL import Image

from benchmarks.figures import Figure, report
from benchmarks.peers.arguments import as_arguments
from benchmarks.peers.task import SCORED, Task
from trainables.data.config import DataConfig
from trainables.data.loading import plan_splits
from tuner.record.directory import RunDirectory
from tuner.record.history import SearchHistory
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

LIMITS = {"tune_optuna": 3.0, "optuna_joblib": 1.0}

Course = list[tuple[float, float]]
"""Of every trial that trained all folds: seconds from the start of the command, and its mean top-1; in order."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is short of its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against_peers")
    parser.add_argument("--root", type=Path, help="folder that holds train/; the digits without it")
    parser.add_argument("--peers", nargs="*", default=list(LIMITS), choices=list(LIMITS))
    defaults = Task(Path())
    for name in ("size_px", "steps", "batch_size", "trials", "folds", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    return report(measure(parser.parse_args(argv)))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figures."""
    sizes = {name: value for name, value in vars(arguments).items() if name not in ("root", "peers")}
    with tempfile.TemporaryDirectory(prefix="against-peers-") as folder:
        if arguments.root is None:
            task = Task(written_digits(Path(folder) / "digits"), mirrored=False, learning_rate=0.01, **sizes)
        else:
            task = Task(arguments.root.resolve(), **sizes)
        courses = {name: course_of_peer(name, task) for name in arguments.peers}
        ours = course_of_ours(task, Path(folder))
    for name, course in {"ours": ours, **courses}.items():
        print(name, *(f"{seconds:.1f}s:{score:.4f}" for seconds, score in course), flush=True)
    return [Figure(f"ahead_of_{name}", ahead(ours, courses[name]), LIMITS[name], at_least=True) for name in courses]


def ahead(ours: Course, theirs: Course) -> float:
    """How many times as long they take to what both reach."""
    goal = min(max(score for _, score in course) for course in (ours, theirs))
    return reached_s(theirs, goal) / reached_s(ours, goal)


def reached_s(course: Course, goal: float) -> float:
    """When the best score so far is first at `goal`, up to rounding."""
    return next(seconds for seconds, score in course if score >= goal - 1e-9)


def course_of_peer(name: str, task: Task) -> Course:
    """Runs one, without the environment of our workers."""
    environment = {key: value for key, value in os.environ.items() if key not in WORKER_ENVIRONMENT}
    started_s = time.time()
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.peers.{name}", *as_arguments(task)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    scored = (line.split()[1:] for line in done.stdout.splitlines() if line.startswith(SCORED))
    return [(float(time_s) - started_s, float(score)) for time_s, score in scored]


def course_of_ours(task: Task, folder: Path) -> Course:
    """Runs the search as a user does, up to the retraining."""
    space = folder / "task.yaml"
    experiment = task.experiment(folder)
    space.write_text(yaml.safe_dump(experiment))
    started_s = time.time()
    command = [sys.executable, "-m", "tuner.search", "--space", str(space)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    (run,) = (folder / str(experiment["name"])).iterdir()
    trials = SearchHistory.read(RunDirectory(run).journal).trials.values()
    ended = [(trial.ended_s, trial.val_top1) for trial in trials]
    return sorted((end_s - started_s, score) for end_s, score in ended if end_s is not None and score is not None)


def written_digits(folder: Path) -> Path:
    """The digits of search_spaces/smile.yaml as an image folder."""
    splits = plan_splits(DataConfig(dataset="digits", train_images=150, test_images=10))
    for split, listing in (("train", splits.train), ("test", splits.test)):
        for number, label in enumerate(listing.labels):
            image: Image.Image = listing.read(number)
            path = folder / split / str(label) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
