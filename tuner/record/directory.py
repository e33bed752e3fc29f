"""Where experiments live: a folder a name, and a folder a run below it, with the record of what was asked."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import secrets
import shlex
import sys
import time
from pathlib import Path

from trainables.errors import BadInput, Problem
from tuner.experiment.search_experiment import Experiment, dump_experiment
from tuner.experiment.settings import tracking_uri
from tuner.experiment.tree import flatten
from tuner.messages.redaction import without_credentials
from tuner.record.find import runs_below
from tuner.record.mirror import Mirror

RECORDED_PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "mlflow", "numpy", "scikit-learn", "pydantic")

MAY_CHANGE = (
    "search.trials",
    "search.concurrency",
    "search.folds_in_parallel",
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
    while True:
        # MLflow knows the run by its name, too: two of one second must differ wherever their folders lie.
        directory = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(root, error) from None
        write_record(space, directory)
        return directory


def write_record(space: Experiment, directory: Path) -> None:
    """Writes `space.yaml` and `environment.json`."""
    kept = environment() | {"tracking_uri": without_credentials(tracking_uri(space.tracking.uri))}
    try:
        (directory / "space.yaml").write_text(dump_experiment(space), encoding="utf-8")
        (directory / "environment.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(directory, error) from None


def latest_run(space: Experiment, mirror: Mirror | None = None) -> Path:
    """The newest experiment directory of that name, here or in the mirror, or that whose record `space` is.

    Raises:
        BadInput: where there is none.
    """
    root = space.tracking.directory / space.name
    runs = runs_below(root)
    itself = Path(space.file).resolve().parent
    if itself in runs:  # the record of a run means that run
        return itself
    there = mirror.newest_run(space.name) if mirror is not None else None
    if there is not None and (not runs or there > runs[-1].name):
        return root / there
    if not runs:
        places = f"{root} or {mirror.uri}/{space.name}" if mirror is not None else root
        raise BadInput(Problem("--resume", f"an earlier run of {space.name!r} lies in {places}", "none"))
    return runs[-1]


def check_goes_on(space: Experiment, directory: Path) -> None:
    """Raises BadInput where `space` asks for other trials than the run in `directory` did."""
    was, now = flatten(space.read_record(directory / "space.yaml").as_tree()), flatten(space.as_tree())
    changed = [key for key in {**was, **now} if was.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)]
    if changed:
        advice = "as it was when the search was started (leave out --resume to start anew)"
        problems = [Problem(key, f"{was.get(key)!r}, {advice}", repr(now.get(key))) for key in changed]
        raise BadInput(problems).in_file(space.file)


def environment() -> dict[str, object]:
    """Versions, machine and command, without credentials: what a result depends on besides its configuration."""
    arguments = [without_credentials(argument) for argument in sys.argv[1:]]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        "command": shlex.join([*_program(), *arguments]),
    }


def _program() -> list[str]:
    """What to type for the command that runs: `python -m` and its module, or the script's file."""
    spec = sys.modules["__main__"].__spec__
    return ["python", "-m", spec.name.removesuffix(".__main__")] if spec is not None else [sys.argv[0]]


def _unwritable(directory: Path, error: OSError) -> BadInput:
    reason = (error.strerror or str(error)).lower()
    return BadInput(Problem("tracking.directory", "a folder that can be written", f"{directory}: {reason}"))
