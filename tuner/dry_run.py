"""`--dry-run`: the resolved experiment, what it will cost, and whether the cluster has room for it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.cluster import Capacity, cluster, share_of, this_machine, total
from tuner.dimensions import spell
from tuner.experiment import Plan
from tuner.space import SearchSpace, dump_space


def print_plan(console: Console, space: SearchSpace, plan: Plan, address: str | None) -> None:
    """Prints the experiment and starts nothing. A cluster at `address` is only asked what it has."""
    console.print(f"[bold]{space.name}[/bold]  {space.file}\n")
    console.print(dump_space(space), markup=False, soft_wrap=True)
    console.print(_dimensions(space))
    console.print()
    for line in _facts(space, plan, _nodes(address)):
        console.print(line, soft_wrap=True)


def _dimensions(space: SearchSpace) -> Table:
    table = Table(title="dimensions", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "leaf", "range"):
        table.add_column(heading)
    for path, dimension in space.dimensions.items():
        table.add_row(space.short_names[path], path, Text(spell(dimension)))
    return table


def _facts(space: SearchSpace, plan: Plan, nodes: list[Capacity]) -> list[str]:
    share = share_of(nodes, space.resources, space.search.concurrency)
    asked = space.resources
    data, sizes = plan.data, plan.backbone
    lines = [
        f"data       {data.num_train} training and {data.num_test} test images, {len(data.class_names)} classes",
        f"backbone   {sizes['num_parameters']:,} parameters, {sizes['num_features']} features, "
        f"{sizes['num_source_classes']} source classes",
        f"search     {plan} = {plan.total_steps:,} steps, {space.search.sampler}",
        f"retrain    {space.retrain.seeds} seeds × {plan.num_steps} steps",
        f"resources  {asked.cpus:g} CPUs and {asked.gpus:g} GPUs a trial; the cluster has {total(nodes)}: "
        f"{share.concurrency} trials at once",
    ]
    return [*lines, *([f"note       {share.note}"] if share.note else [])]


def _nodes(address: str | None) -> list[Capacity]:
    if address is None:
        return [this_machine()]
    with cluster(address) as nodes:
        return nodes
