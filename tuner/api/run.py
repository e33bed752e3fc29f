"""Runs a search or a comparison in this process, and returns its result.

Unlike the commands, these functions raise exceptions, print only their progress, and leave signals, file descriptors,
logging and environment of the caller as they were.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuner.api.progress import comparison_display, search_display
from tuner.cluster.trainable import decoded_bytes
from tuner.comparison.comparison_experiment import (
    ComparisonExperiment,
    check_comparison,
    load_comparison,
    parse_comparison,
    resolved_comparison,
)
from tuner.comparison.comparison_result import ComparisonResult
from tuner.comparison.run_comparison import load_comparison_images
from tuner.comparison.run_comparison import run_comparison as run_in_context
from tuner.execution.check import check_search, check_with_places
from tuner.execution.observer import Observer
from tuner.execution.run_context import open_run, run_directory
from tuner.execution.run_search import run_search as search_in_context
from tuner.experiment.alternatives import override_leaf
from tuner.experiment.checks import load_images
from tuner.experiment.packaged_spaces import find_space
from tuner.experiment.search_experiment import SearchExperiment, load_experiment, parse_experiment
from tuner.record.history import ComparisonHistory, SearchHistory
from tuner.record.journal import SearchJournal
from tuner.reports.search_result import SearchResult
from tuner.resources.share import Share

Overrides = Mapping[str, Any]
"""Values of leaves by dotted path, which override the experiment's: `{"search.trials": 4, "data.root": "photos"}`."""


def run_search(
    experiment: str | Path | Mapping[str, Any] | SearchExperiment,
    overrides: Overrides | None = None,
    *,
    address: str | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> SearchResult:
    """Searches, retrains the best configuration and registers its model, as `python -m tuner.search` does.

    Args:
        experiment: YAML file, name of a packaged one (`smile`), content of such a file as a mapping, or an
            experiment that was loaded before.
        overrides: values of leaves by dotted path, which override the experiment's.
        address: address of a running Ray cluster; without it one is started on this machine, and shut down again.
        resume: whether to resume the latest run of that name.
        show_progress: whether to show progress, live in a notebook and as lines elsewhere.

    Returns:
        Best configuration, scores of folds and test split, model URI, run directory, report, trials.

    Raises:
        BadInput: before the first trial, with all problems of the input.
        KeyboardInterrupt: if the search is interrupted; finished folds are kept, and `resume=True` resumes it.
        Exception: any error that ended the search, after its journal has recorded it.

    >>> result = run_search("search_spaces/smile.yaml", {"search.trials": 2})  # doctest: +SKIP
    >>> result.val_top1, result.model_uri  # doctest: +SKIP
    (0.94, 'models:/smile-digits/3')
    """
    started_s = time.monotonic()
    space = _search_experiment(experiment, overrides or {})
    plan = check_search(space)
    space = plan.space
    images = load_images(space)
    with (
        search_display(space, plan.num_trials, show_progress) as display,
        run_directory(space, resume, display.say) as directory,
        open_run(
            space, directory, SearchHistory(keeps_curves=False), address, decoded_bytes(images), display.say
        ) as context,
    ):
        display.concurrency = space.search.folds_at_once(context.share.concurrency, plan.num_trials)
        context.journal.listeners.append(display)
        return search_in_context(context, space, plan, images, display, started_s)


def run_comparison(
    experiment: str | Path | Mapping[str, Any] | ComparisonExperiment,
    overrides: Overrides | None = None,
    *,
    address: str | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> ComparisonResult:
    """Compares methods with paired tests, as `python -m tuner.compare` does. Arguments and errors as in `run_search`.

    >>> result = run_comparison("search_spaces/compare/digits.yaml", {"compare.seeds": 2})  # doctest: +SKIP
    >>> [(entry.row, entry.mean) for entry in result.entries]  # doctest: +SKIP
    [('L²', 0.953), ('SMILE', 0.944)]
    """
    comparison = _comparison_experiment(experiment, overrides or {})
    plans = check_with_places(comparison, lambda: check_comparison(comparison))
    comparison = resolved_comparison(comparison, plans)
    images = load_comparison_images(comparison)
    with (
        run_directory(comparison, resume, _drop) as directory,
        open_run(comparison, directory, ComparisonHistory(), address, decoded_bytes(images), _drop) as context,
    ):
        display = comparison_display(comparison, context.share.concurrency, show_progress)
        context.journal.listeners.append(display)

        @contextlib.contextmanager
        def row_display(space: SearchExperiment, journal: SearchJournal, share: Share) -> Iterator[Observer]:
            with search_display(space, space.search.trials, show_progress) as of_row:
                journal.listeners.append(of_row)
                yield of_row

        return run_in_context(context, comparison, images, display, row_display)


def _search_experiment(
    experiment: str | Path | Mapping[str, Any] | SearchExperiment, overrides: Overrides
) -> SearchExperiment:
    match experiment:
        case SearchExperiment():
            return parse_experiment(_overridden(experiment.as_tree(), overrides)) if overrides else experiment
        case Mapping():
            return parse_experiment(_overridden(experiment, overrides))
        case _:
            file = find_space(Path(experiment), "experiment")
            return load_experiment(file, overrides, _flags(overrides))


def _comparison_experiment(
    experiment: str | Path | Mapping[str, Any] | ComparisonExperiment, overrides: Overrides
) -> ComparisonExperiment:
    match experiment:
        case ComparisonExperiment():
            return parse_comparison(_overridden(experiment.as_tree(), overrides)) if overrides else experiment
        case Mapping():
            return parse_comparison(_overridden(experiment, overrides))
        case _:
            file = find_space(Path(experiment), "experiment")
            return load_comparison(file, overrides, flags=_flags(overrides))


def _flags(overrides: Overrides) -> dict[str, str]:
    """Returns the place of each override in messages: the argument, not a flag of the command line."""
    return {path: f"overrides[{path!r}]" for path in overrides}


def _overridden(tree: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    changed = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    for path, value in overrides.items():
        override_leaf(changed, path, value)
    return changed


def _drop(line: str) -> None:
    """Ignores a line, as there is no display yet."""
