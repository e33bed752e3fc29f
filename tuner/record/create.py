"""Creates the directory of a new run, and finds that of the run to resume."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import BadInput, Problem, os_reason
from tuner.experiment.search_experiment import Experiment, dump_experiment
from tuner.experiment.settings import tracking_uri
from tuner.experiment.tree import flatten
from tuner.record.directory import TIME_FORMAT, RunDirectory
from tuner.record.environment import Environment
from tuner.record.find import runs_below

if TYPE_CHECKING:
    from tuner.record.mirror import Mirror  # with pyarrow, which only a mirror needs

MAY_CHANGE = (
    "search.trials",
    "search.baselines",
    "search.concurrency",
    "search.folds_in_parallel",
    "search.minutes",
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
"""Keys (or their prefixes) that may differ in a resumed run: any other would make its trials incomparable with the
earlier ones."""
MAY_MOVE = ("data.root", "data.file")
"""Keys that may differ, too, if the record has an inventory of the data, by which these are found to be the same."""


def new_run(experiment: Experiment) -> RunDirectory:
    """Creates a directory for `experiment`, with its resolved YAML and the environment.

    Raises:
        BadInput: if it cannot be written.
    """
    root = experiment.tracking.directory / experiment.name
    while True:
        # MLflow identifies the run by its name: two of one second must differ, whatever their folders are.
        # In UTC: machines and containers of different time zones may share the folder.
        started = time.strftime(TIME_FORMAT, time.gmtime())
        directory = RunDirectory(root / f"{started}-{secrets.token_hex(2)}")
        try:
            directory.path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(root, error) from None
        write_record(experiment, directory)
        return directory


def write_record(experiment: Experiment, directory: RunDirectory) -> None:
    """Writes `space.yaml` and `environment.json`. Raises BadInput if they cannot be written."""
    try:
        directory.space.write_text(dump_experiment(experiment), encoding="utf-8")
        Environment.here(tracking_uri(experiment.tracking.uri)).write(directory)
    except OSError as error:
        raise _unwritable(directory.path, error) from None


def latest_run(experiment: Experiment, mirror: Mirror | None = None) -> RunDirectory:
    """Finds the newest run of the experiment's name, on this disk or in the mirror.

    An experiment that was read from a run's own `space.yaml` means that run. A run that only the mirror has is not
    copied; its directory does not exist yet.

    Raises:
        BadInput: if there is none.
    """
    root = experiment.tracking.directory / experiment.name
    runs = runs_below(root)
    itself = RunDirectory(Path(experiment.file).resolve().parent)
    if itself in runs:
        return itself
    there = mirror.newest_run(experiment.name) if mirror is not None else None
    if there is not None and (not runs or there > runs[-1].run):
        return RunDirectory(root / there)
    if not runs:
        places = f"{root} or {mirror.uri}/{experiment.name}" if mirror is not None else root
        raise BadInput(Problem("--resume", f"an earlier run of {experiment.name!r} in {places}", "none"))
    return runs[-1]


def check_same_trials(experiment: Experiment, directory: RunDirectory) -> None:
    """Raises BadInput with every key of `experiment` that would train other trials than the run in `directory` did."""
    was, now = flatten(experiment.read_record(directory.space).as_tree()), flatten(experiment.as_tree())
    may_change = (*MAY_CHANGE, *(MAY_MOVE if directory.data.exists() else ()))
    changed = [key for key in {**was, **now} if was.get(key) != now.get(key) and not key.startswith(may_change)]
    if changed:
        advice = "its value when the search was started (leave out --resume to start anew)"
        problems = [Problem(key, f"{was.get(key)!r}, {advice}", repr(now.get(key))) for key in changed]
        raise BadInput(problems).in_file(experiment.file)


def _unwritable(directory: Path, error: OSError) -> BadInput:
    return BadInput(Problem("tracking.directory", "a folder that can be written", f"{directory}: {os_reason(error)}"))
