"""Checks of an experiment before anything runs: the experiment itself, and every place that it will write to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from trainables.errors import BadInput, Problem, os_reason
from trainables.paths import why_not_writable
from tuner.experiment.checks import Plan, check_experiment
from tuner.experiment.search_experiment import Experiment, SearchExperiment
from tuner.experiment.settings import tracking_key, tracking_uri
from tuner.record.create import check_same_trials, latest_run
from tuner.record.data_record import check_same_data
from tuner.record.directory import RunDirectory
from tuner.record.history import SearchHistory
from tuner.record.plugin_record import check_same_plugins

Result = TypeVar("Result")
NO_FILES: Mapping[str, Path] = {}


def check_search(space: SearchExperiment, outputs: Mapping[str, Path] = NO_FILES) -> Plan:
    """Checks an experiment and the places that it writes to. Returns the plan.

    `outputs` are files that will be written besides, by the flag that asks for them.

    Raises:
        BadInput: with all problems of both.
    """
    return check_with_places(space, lambda: check_experiment(space), outputs)


def check_with_places(
    experiment: Experiment, check: Callable[[], Result], outputs: Mapping[str, Path] = NO_FILES
) -> Result:
    """Calls `check` and returns its result, after a check of the places that `experiment` writes to.

    The MLflow store is opened once; see `check_search` for `outputs`.

    Raises:
        BadInput: with all problems of both.
    """
    problems: list[Problem] = []
    result: Result | None = None
    try:
        result = check()
    except BadInput as bad:
        problems += bad.problems
    problems += [*_place_problems(experiment), *output_problems(outputs)]
    if problems or result is None:
        raise BadInput(problems)
    return result


def check_resumable(experiment: Experiment) -> None:
    """Checks that the latest run of an experiment can be resumed, as far as it is on this machine.

    Raises:
        BadInput: if there is none, or as `check_resumed`.
    """
    if experiment.tracking.mirror is None:
        check_resumed(experiment, latest_run(experiment))
        return
    from tuner.record.mirror import Mirror  # with pyarrow, which only a mirror needs

    directory = latest_run(experiment, Mirror.open(experiment.tracking.mirror))
    if directory.has_begun:
        check_resumed(experiment, directory)


def check_resumed(experiment: Experiment, directory: RunDirectory) -> None:
    """Checks that `experiment` goes on with the run in `directory`.

    Raises:
        BadInput: if the run's journal is damaged, or it would train other trials, with other plugins, or on other data.
    """
    SearchHistory.read(directory.journal)  # of a comparison, too: the events of the other kind are passed over
    check_same_plugins(directory)
    check_same_trials(experiment, directory)
    check_same_data(experiment, directory)


def output_problems(outputs: Mapping[str, Path]) -> Iterator[Problem]:
    """Yields the files that could not be written at the end, by the flag that asks for them."""
    for flag, file in outputs.items():
        if reason := _why_no_file(file):
            yield Problem(flag, "a file that can be written", f"{str(file)!r}: {reason}")


def _why_no_file(file: Path) -> str:
    if str(file) == "-":
        return "the standard output shows the progress"
    if file.is_dir():
        return "a folder"
    if not file.parent.is_dir():
        return f"there is no folder {str(file.parent)!r}"
    if not file.exists():
        return why_not_writable(file.parent)
    try:
        with file.open("ab"):
            return ""
    except OSError as error:
        return os_reason(error)


def _place_problems(experiment: Experiment) -> Iterable[Problem]:
    tracking, problems = experiment.tracking, []
    if reason := why_not_writable(tracking.directory / experiment.name):
        got = f"{str(tracking.directory)!r}: {reason}"
        problems.append(Problem("tracking.directory", "a folder that can be written", got, experiment.file))
    for check in (_check_mirror, _check_store):
        try:
            check(experiment)
        except BadInput as bad:
            problems += bad.problems
    return problems


def _check_store(experiment: Experiment) -> None:
    from tuner.tracking.store import check_store

    key = tracking_key(experiment.tracking.uri)
    try:
        check_store(tracking_uri(experiment.tracking.uri), key)
    except BadInput as bad:
        in_file = key == "tracking.uri"
        raise BadInput(replace(p, file=experiment.file if in_file else "") for p in bad.problems) from None


def _check_mirror(experiment: Experiment) -> None:
    uri = experiment.tracking.mirror
    if uri is None:
        return
    if folder := re.fullmatch("file://(/.*)", uri):
        if reason := why_not_writable(Path(folder[1])):
            got = f"{uri}: {reason}"
            raise BadInput(Problem("tracking.mirror", "a folder that can be written", got, experiment.file))
        return
    from tuner.record.mirror import Mirror  # with pyarrow, which only a mirror needs

    try:
        Mirror.open(uri)
    except BadInput as bad:
        raise bad.in_file(experiment.file) from None
