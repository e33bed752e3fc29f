"""Where experiments live: a folder a name, a folder a run below it, and one process at a time in each."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import IO

from trainables.errors import BadInput, Problem
from tuner.redaction import without_credentials
from tuner.space import Experiment, dump_space, flatten

RECORDED_PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy", "scikit-learn", "pydantic")

MAY_CHANGE = (
    "search.trials",
    "search.concurrency",
    "search.timeout_s",
    "search.max_fold_trainings",
    "search.plateau",
    "search.fold_timeout_s",
    "search.checkpoint_period_s",
    "retrain.",
    "compare.seeds",
    "resources.",
    "tracking.",
)
"""What a resumed run may ask anew; everything else would make its trials incomparable with the earlier ones."""


def new_run(space: Experiment) -> Path:
    """A fresh experiment directory for `space`, with its resolved YAML and the environment.

    Raises:
        BadInput: where it cannot be written.
    """
    root = space.tracking.directory / space.name
    started = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        directory = root / (f"{started}-{attempt}" if attempt else started)
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(root, error) from None
        write_record(space, directory)
        return directory
    raise FileExistsError(root)


def write_record(space: Experiment, directory: Path) -> None:
    """Writes `space.yaml` and `environment.json`."""
    try:
        (directory / "space.yaml").write_text(dump_space(space), encoding="utf-8")
        (directory / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(directory, error) from None


def latest_run(space: Experiment) -> Path:
    """The newest experiment directory of that name, or that whose record `space` is. Raises BadInput for none."""
    root = space.tracking.directory / space.name
    runs = sorted(path for path in root.glob("*") if (path / "journal.jsonl").exists())
    if not runs:
        raise BadInput(Problem("--resume", f"an earlier run of {space.name!r} lies in {root}", "none"))
    itself = Path(space.file).resolve().parent
    run = itself if itself in runs else runs[-1]  # the record of a run means that run
    _check_goes_on(space, run / "space.yaml")
    return run


def _check_goes_on(space: Experiment, recorded_file: Path) -> None:
    was, now = flatten(space.read_record(recorded_file).as_tree()), flatten(space.as_tree())
    changed = [key for key in {**was, **now} if was.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)]
    if changed:
        advice = "as it was when the search was started (leave out --resume to start anew)"
        problems = [Problem(key, f"{was.get(key)!r}, {advice}", repr(now.get(key))) for key in changed]
        raise BadInput(problems).in_file(space.file)


def locked(directory: Path) -> IO[str]:
    """Takes the directory for this process until the file is closed. Raises BadInput while another process has it."""
    file = (directory / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        came = f"process {file.read().strip() or 'unknown'} is at work in it"
        file.close()
        raise BadInput(Problem("", "no other process runs this search", came, file=str(directory))) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def environment() -> dict[str, object]:
    """Versions, machine and command, without credentials: what a result depends on besides its configuration."""
    arguments = [without_credentials(argument) for argument in sys.argv[1:]]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        "command": shlex.join([Path(sys.argv[0]).name, *arguments]),
    }


def _unwritable(directory: Path, error: OSError) -> BadInput:
    reason = (error.strerror or str(error)).lower()
    return BadInput(Problem("tracking.directory", "a folder that can be written", f"{directory}: {reason}"))
