"""Dry run: prints the resolved experiment, its cost, and its share of the cluster."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainables.data.examples import Examples
from trainables.data.loading import source_key
from trainables.errors import BadInput
from tuner.cli.console import print_line
from tuner.experiment.balance import balance_notes
from tuner.experiment.checks import Plan, load_images
from tuner.experiment.dimensions import spell
from tuner.experiment.search_experiment import Experiment, SearchExperiment, dump_experiment
from tuner.experiment.settings import ResourceSettings, SearchSettings
from tuner.experiment.timing import StepTimes, time_steps
from tuner.messages.wording import amount, one_line
from tuner.resources.share import Capacity, Share, share_of, this_machine, total
from tuner.scheduling.minutes import Forecast, TimeBudget
from tuner.scheduling.scope import Scope, scope_of

STARTING_S = 15.0
"""Estimate of what precedes the trials: imports, Ray's start, decoding, and the timed steps."""
STARTUP_S = 5.0
"""Estimate of the start of new workers."""

if TYPE_CHECKING:
    from tuner.comparison.comparison_experiment import ComparisonExperiment


def print_plan(
    console: Console, space: SearchExperiment, plan: Plan, address: str | None, notes: Sequence[str] = ()
) -> None:
    """Prints the experiment and its plan; `notes` are lines about earlier searches.

    The images are decoded and a few steps are timed, here or on the cluster at `address`, which is joined.

    Raises:
        BadInput: if an image does not decode, or the budget of minutes is too small.
    """
    _print_experiment(console, space)
    console.print(_dimensions(space))
    console.print()
    with _joined(address) as nodes:
        share = share_of(nodes, space.resources, space.search.concurrency)
        for line in (*_facts(space, plan, share, nodes), *notes):
            print_line(console, line)
        print_line(console, f"minutes    {_minutes(plan, share, address)}")


def print_comparison(
    console: Console, comparison: ComparisonExperiment, plans: Sequence[Plan], address: str | None
) -> None:
    """Prints a comparison and its cost; `plans` are those of its arms."""
    from tuner.comparison.cost import ComparisonCost

    _print_experiment(console, comparison)
    console.print(_arms(comparison, plans))
    console.print()
    for note in dict.fromkeys(note for plan in plans for note in plan.data.notes):
        print_line(console, f"data       {note}")
    budget = ComparisonCost.of(comparison, plans)
    with _joined(address) as joined:
        nodes = joined
    share = share_of(nodes, comparison.resources, comparison.search.concurrency)
    print_line(console, f"budget     {budget}")
    at_once = max(1, min(share.concurrency, budget.num_folds + comparison.num_cells))
    per_place = -(-budget.total_steps // at_once)
    console.print(f"           {budget.total_steps:,} steps in all, about {per_place:,} one after the other")
    for line in _resources(comparison.resources, share, nodes):
        print_line(console, line)


def _print_experiment(console: Console, experiment: Experiment) -> None:
    console.print(Text.assemble((experiment.name, "bold"), f"  {experiment.file}\n"), soft_wrap=True)
    console.print(Text(dump_experiment(experiment)), soft_wrap=True)


def _arms(comparison: ComparisonExperiment, plans: Sequence[Plan]) -> Table:
    table = Table(title="trainings", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("column", "row", "images", "settings", "steps"):
        table.add_column(heading)
    for arm, plan in zip(comparison.arms, plans, strict=True):
        images = f"{plan.data.num_train} + {plan.data.num_test} test"
        settings = f"searched: {plan.folds_in_words}" if arm.is_searched else "fixed"
        steps = f"{comparison.compare.seeds} × {plan.num_retrain_steps}"
        table.add_row(Text(arm.column), Text(arm.row), images, settings, steps)
    return table


def _dimensions(space: SearchExperiment) -> Table:
    table = Table(title="dimensions", title_justify="left", box=None, padding=(0, 2, 0, 0))
    branches = space.branches
    for heading in ("name", "leaf", "range", *(["if"] if branches.conditions else [])):
        table.add_column(heading, overflow="fold")  # the end of a long path tells it from others
    for key, dimension in space.dimensions.items():
        words = (space.short_names[key], branches.path_of(key), spell(dimension), branches.labels_of(key))
        table.add_row(*map(Text, words[: len(table.columns)]))
    return table


def _facts(space: SearchExperiment, plan: Plan, share: Share, nodes: list[Capacity]) -> list[str]:
    data, sizes = plan.data, plan.backbone
    return [
        f"data       {data}"
        + ("" if data.num_groups is None else f", {data.num_groups} groups that folds do not split"),
        *(f"           {note}" for note in (*data.notes, *balance_notes(plan))),
        f"backbone   {sizes.num_parameters:,} parameters, {sizes.num_features} features, "
        f"{sizes.num_source_classes} source classes",
        f"search     {plan}{_total(plan)}, {space.search.sampler}",
        *_limits(space.search),
        f"retrain    {space.retrain.seeds} seeds × {plan.num_retrain_steps} steps ({plan.retrain_epochs:.3g} epochs)",
        *_resources(space.resources, share, nodes),
    ]


def _total(plan: Plan) -> str:
    return "" if plan.total_steps is None else f" = {plan.total_steps:,} steps"


def _limits(search: SearchSettings) -> Iterator[str]:
    """Yields lines about racing and budgets."""
    racing = " ".join(f"{key}={value}" for key, value in search.racing.model_dump(exclude={"rule"}).items())
    yield f"racing     {search.racing.rule} {racing}".rstrip()
    budgets = [
        f"{search.minutes:g} minutes of wall-clock, with the retraining" if search.minutes is not None else "",
        f"{search.timeout_s:g} s of wall-clock" if search.timeout_s is not None else "",
        f"{search.max_fold_trainings} fold trainings" if search.max_fold_trainings is not None else "",
        f"{search.plateau.trials} trials without a gain above {search.plateau.min_gain:g}" if search.plateau else "",
    ]
    if any(budgets):
        yield f"budget     at most {', or '.join(filter(None, budgets))}"


def _resources(asked: ResourceSettings, share: Share, nodes: list[Capacity]) -> list[str]:
    cpus, auto = amount(asked.cpus, "CPU"), "GPUs auto: measured when it starts"
    if asked.gpus == "auto" or share.is_auto:
        each = f"{cpus} a trial, {auto}"
    else:
        each = f"{cpus} and {amount(asked.gpus or 0, 'GPU')} a trial"
    least = "at least " if share.is_auto else ""
    line = f"resources  {each}; the cluster has {total(nodes)}: {least}{share.concurrency} trials at once"
    return [line, *([f"note       {share.note}"] if share.note else [])]


@contextlib.contextmanager
def _joined(address: str | None) -> Iterator[list[Capacity]]:
    """Yields the capacity of each node of the cluster at `address`, joined for the block; without, of this machine."""
    if address is None:
        yield [this_machine()]
        return
    from tuner.cluster.connection import cluster  # with Ray

    with cluster(address) as nodes:
        yield nodes


def _minutes(plan: Plan, share: Share, address: str | None) -> str:
    """Says how long the search takes, by timed steps, or what fits into its minutes."""
    images = load_images(plan.space)
    try:
        times = _step_times(plan, images, share, address)
    except Exception as error:  # as memory that is exhausted: a dry run says it, where each trial would fail of it
        if plan.space.search.minutes is not None:
            raise
        return f"unknown, as a step of the first configuration failed: {one_line(error)}"
    if plan.space.search.minutes is not None:
        return str(_scope(plan, times, share))
    return expected_minutes(plan, times, share.concurrency)


def _step_times(plan: Plan, images: Mapping[str, Examples], share: Share, address: str | None) -> StepTimes:
    """Times a few steps of the first configuration, in this process or on the cluster that is joined."""
    config = next(plan.space.boundary_configs())
    if address is None:
        torch.set_num_threads(max(1, int(share.cpus)))
        return time_steps(config, images[source_key(config.data)], plan.num_folds)
    from tuner.cluster.time_probe import probe_step_times  # with Ray

    times, _ = probe_step_times(config, images, plan.num_folds, share, is_measured=False)
    return times


def expected_minutes(plan: Plan, times: StepTimes, places: int) -> str:
    """Says the minutes of a search without early stopping, of which `places` trainings run at once."""
    assert plan.num_trials is not None  # else the search has a budget of minutes
    budget = TimeBudget.of(plan, times, places, 0.0, STARTUP_S)
    minutes = budget.whole_s(plan.num_trials, STARTING_S) / 60
    work = Forecast(budget, plan.num_trials, 60 * minutes, math.inf).work
    baselines = "baselines, " if budget.num_baseline_folds else ""
    less = "" if plan.space.search.racing.rule == "none" else "; fewer where racing stops trials"
    return f"about {minutes:.{0 if minutes >= 10 else 1}f}: {baselines}{work}, {places} at once{less}"


def _scope(plan: Plan, times: StepTimes, share: Share) -> Scope:
    """Fits the search into its minutes."""

    def budget_of(plan: Plan) -> TimeBudget:
        return TimeBudget.of(plan, times, share.concurrency, 0.0, STARTUP_S)

    scope = scope_of(plan, budget_of, STARTING_S)
    try:
        scope.forecast.check()
    except BadInput as bad:
        raise bad.in_file(plan.space.file) from None
    return scope
