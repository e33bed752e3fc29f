"""Dry run: prints the resolved experiment, its cost, and its share of the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.experiment.checks import Plan
from tuner.experiment.dimensions import spell
from tuner.experiment.search_experiment import Experiment, SearchExperiment, dump_experiment
from tuner.experiment.settings import ResourceSettings, SearchSettings
from tuner.resources.share import Capacity, Share, share_of, this_machine, total

if TYPE_CHECKING:
    from tuner.comparison.comparison_experiment import ComparisonExperiment


def print_plan(
    console: Console, space: SearchExperiment, plan: Plan, address: str | None, notes: Sequence[str] = ()
) -> None:
    """Prints the experiment and its plan. A cluster at `address` is joined for its capacity alone; `notes` are lines
    about earlier searches."""
    _print_experiment(console, space)
    console.print(_dimensions(space))
    console.print()
    for line in (*_facts(space, plan, _nodes(address)), *notes):
        console.print(line, soft_wrap=True)


def print_comparison(
    console: Console, comparison: ComparisonExperiment, plans: Sequence[Plan], address: str | None
) -> None:
    """Prints a comparison and its cost; `plans` are those of its arms."""
    from tuner.comparison.cost import ComparisonCost

    _print_experiment(console, comparison)
    console.print(_arms(comparison, plans))
    console.print()
    budget, nodes = ComparisonCost.of(comparison, plans), _nodes(address)
    share = share_of(nodes, comparison.resources, comparison.search.concurrency)
    console.print(f"budget     {budget}", soft_wrap=True)
    at_once = max(1, min(share.concurrency, budget.num_folds + comparison.num_cells))
    per_place = -(-budget.total_steps // at_once)
    console.print(f"           {budget.total_steps:,} steps in all, about {per_place:,} one after the other")
    for line in _resources(comparison.resources, share, nodes):
        console.print(line, soft_wrap=True)


def _print_experiment(console: Console, experiment: Experiment) -> None:
    console.print(f"[bold]{experiment.name}[/bold]  {experiment.file}\n")
    console.print(dump_experiment(experiment), markup=False, soft_wrap=True)


def _arms(comparison: ComparisonExperiment, plans: Sequence[Plan]) -> Table:
    table = Table(title="trainings", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("column", "row", "images", "settings", "steps"):
        table.add_column(heading)
    for arm, plan in zip(comparison.arms, plans, strict=True):
        images = f"{plan.data.num_train} + {plan.data.num_test} test"
        settings = f"searched: {plan.num_trials} trials × {plan.num_folds} folds" if arm.is_searched else "fixed"
        steps = f"{comparison.compare.seeds} × {plan.num_steps}"
        table.add_row(Text(arm.column), Text(arm.row), images, settings, steps)
    return table


def _dimensions(space: SearchExperiment) -> Table:
    table = Table(title="dimensions", title_justify="left", box=None, padding=(0, 2, 0, 0))
    branches = space.branches
    for heading in ("name", "leaf", "range", *(["if"] if branches.conditions else [])):
        table.add_column(heading)
    for key, dimension in space.dimensions.items():
        words = (space.short_names[key], branches.path_of(key), spell(dimension), branches.labels_of(key))
        table.add_row(*map(Text, words[: len(table.columns)]))
    return table


def _facts(space: SearchExperiment, plan: Plan, nodes: list[Capacity]) -> list[str]:
    share = share_of(nodes, space.resources, space.search.concurrency)
    data, sizes = plan.data, plan.backbone
    return [
        f"data       {data.num_train} training and {data.num_test} test images, {len(data.class_names)} classes",
        f"backbone   {sizes.num_parameters:,} parameters, {sizes.num_features} features, "
        f"{sizes.num_source_classes} source classes",
        f"search     {plan} = {plan.total_steps:,} steps, {space.search.sampler}",
        *_limits(space.search),
        f"retrain    {space.retrain.seeds} seeds × {plan.num_steps} steps",
        *_resources(space.resources, share, nodes),
    ]


def _limits(search: SearchSettings) -> Iterator[str]:
    """Yields lines about racing and budgets."""
    racing = " ".join(f"{key}={value}" for key, value in search.racing.model_dump(exclude={"rule"}).items())
    yield f"racing     {search.racing.rule} {racing}".rstrip()
    budgets = [
        f"{search.timeout_s:g} s of wall-clock" if search.timeout_s is not None else "",
        f"{search.max_fold_trainings} fold trainings" if search.max_fold_trainings is not None else "",
        f"{search.plateau.trials} trials without a gain above {search.plateau.min_gain:g}" if search.plateau else "",
    ]
    if any(budgets):
        yield f"budget     at most {', or '.join(filter(None, budgets))}"


def _resources(asked: ResourceSettings, share: Share, nodes: list[Capacity]) -> list[str]:
    cpus, auto = f"{asked.cpus:g} CPUs", "GPUs auto: measured when it starts"
    each = f"{cpus} a trial, {auto}" if asked.gpus == "auto" else f"{cpus} and {asked.gpus:g} GPUs a trial"
    least = "at least " if share.is_auto else ""
    line = f"resources  {each}; the cluster has {total(nodes)}: {least}{share.concurrency} trials at once"
    return [line, *([f"note       {share.note}"] if share.note else [])]


def _nodes(address: str | None) -> list[Capacity]:
    if address is None:
        return [this_machine()]
    from tuner.cluster.connection import cluster  # with Ray

    with cluster(address) as nodes:
        return nodes
