"""Lists the searches and comparisons in the experiments folder, with their states: `python -m tuner.list`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.cli.arguments import SUCCEEDED, add_directory_flag, guarded
from tuner.cli.commands import command_parser

if TYPE_CHECKING:
    from rich.table import Table

    from tuner.record.summary import Summary


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0, also if there is nothing to list; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("list")
    add = parser.add_argument
    add_directory_flag(parser)
    add("--json", metavar="FILE", help="write JSON there, for other programs; - is the standard output")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the table, or writes it as JSON."""
    import json
    import sys
    from dataclasses import asdict

    from tuner.record.summary import summaries_of

    root, json_file = arguments.directory, arguments.json
    summaries = list(summaries_of(root))
    if json_file is not None:
        text = json.dumps([asdict(summary) for summary in summaries], indent=2) + "\n"
        if json_file == "-":
            sys.stdout.write(text)
        else:
            Path(json_file).write_text(text, encoding="utf-8")
        return SUCCEEDED
    from rich.console import Console

    Console(highlight=False).print(table_of(summaries) if summaries else f"there is no experiment in {root}")
    return SUCCEEDED


def table_of(summaries: Iterable[Summary]) -> Table:
    """Makes a table for the terminal, a row for each run."""
    import time

    from rich.table import Table
    from rich.text import Text

    from tuner.messages.wording import age

    styles = {"running": "green", "finished": "", "interrupted": "yellow"}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("search", "state", "trials", "best", "age", "last event", ""):
        table.add_column(heading, overflow="fold")
    now_s = time.time()
    for summary in summaries:
        counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count)
        limit = "" if summary.num_asked is None else f"/{summary.num_asked}"
        done = f"{sum(summary.counts.values())}{limit}"
        last = f"{summary.last_event.replace('_', ' ')} {age(now_s - summary.last_event_s)} ago"
        table.add_row(
            f"{summary.name}/{summary.run}",
            Text(summary.state, styles.get(summary.state, "red")),
            f"{done} ({counts})" if counts else done,
            best_of(summary),
            age(now_s - summary.started_s),
            last,
            Text(summary.why),
        )
    return table


def best_of(summary: Summary) -> str:
    """Best value of a run, with the name of its metric unless that is top-1."""
    from tuner.experiment.objective import Objective

    if summary.best is None:
        return "–"
    label = "" if summary.objective == "top1" else f" {Objective(summary.objective).label}"
    return f"{summary.best:.4f}{label}"


if __name__ == "__main__":
    raise SystemExit(main())
