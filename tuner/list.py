"""Lists the searches and comparisons in the experiments folder, with their states: `python -m tuner.list`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.cli.arguments import SUCCEEDED, add_directory_flag, guarded, writing
from tuner.cli.commands import command_parser
from tuner.cli.listing import print_lines

if TYPE_CHECKING:
    from tuner.record.summary import Summary

HEADINGS = ("search", "state", "trials", "best", "age", "last event")
COLOURS = {"running": "32", "finished": "0", "interrupted": "33"}
"""ANSI colours of states on a terminal; others are red."""
RED = "31"


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
    """Prints a line for each run, or writes JSON. Raises BadInput if that cannot be written."""
    import json
    import os
    import shutil
    import sys
    from dataclasses import asdict

    from tuner.record.summary import summaries_of

    root, json_file = arguments.directory, arguments.json
    summaries = list(summaries_of(root))
    if json_file is not None:
        text = json.dumps([asdict(summary) for summary in summaries], indent=2)
        if json_file == "-":
            print_lines([text])
        else:
            with writing("--json", Path(json_file)):
                Path(json_file).write_text(f"{text}\n", encoding="utf-8")
    elif not summaries:
        print(f"there is no experiment in {root}")
    elif sys.stdout.isatty():
        print_lines(lines_of(summaries, shutil.get_terminal_size().columns, "NO_COLOR" not in os.environ))
    else:
        print_lines(lines_of(summaries))
    return SUCCEEDED


def lines_of(summaries: Sequence[Summary], width: int | None = None, is_coloured: bool = False) -> Iterator[str]:
    """Yields a heading and a line for each run, its columns aligned. Where a terminal's `width` is given and a line is
    longer, what is in its last columns stands in lines of their own below it.

    `grep` finds a run with all that is said of it: without a width there is one line a run.
    """
    rows = [_cells(summary) for summary in summaries]
    widths = [max(len(cell) for cell in column) for column in zip(HEADINGS, *(cells for cells, _ in rows), strict=True)]
    lines = [[f"{_aligned(cells, widths)}  {why}".rstrip()] for cells, why in rows]
    if width is None or max(len(line) for (line,) in lines) <= width:
        yield _aligned(HEADINGS, widths)
    else:
        lines = [list(_folded(cells, why, width)) for cells, why in rows]
    for summary, (first, *below) in zip(summaries, lines, strict=True):
        yield _coloured(first, summary.state) if is_coloured else first
        yield from below


def _cells(summary: Summary) -> tuple[tuple[str, ...], str]:
    """The columns of a run, and the reason of its end."""
    import time

    from tuner.messages.wording import age

    now_s = time.time()
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count)
    limit = "" if summary.num_asked is None else f"/{summary.num_asked}"
    done = f"{sum(summary.counts.values())}{limit}"
    cells = (
        f"{summary.name}/{summary.run}",
        summary.state,
        f"{done} ({counts})" if counts else done,
        best_of(summary),
        age(now_s - summary.started_s),
        f"{summary.last_event.replace('_', ' ')} {age(now_s - summary.last_event_s)} ago".strip(),
    )
    return cells, " ".join(summary.why.split())


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _folded(cells: Sequence[str], why: str, width: int) -> Iterator[str]:
    """The name and state of a run, and the rest below them, in lines of at most `width` columns where words allow."""
    from textwrap import wrap

    name, state, trials, best, started, last = cells
    yield f"{name}  {state}"
    said = f"{trials}, best {best}, started {started} ago, {last}" + (f": {why}" if why else "")
    yield from wrap(said, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def _coloured(line: str, state: str) -> str:
    """Colours the state in the line that names it."""
    before, found, after = line.partition(f"  {state}")
    return f"{before}\x1b[{COLOURS.get(state, RED)}m{found}\x1b[0m{after}" if found else line


def best_of(summary: Summary) -> str:
    """Best value of a run, with the name of its metric unless that is top-1."""
    from tuner.experiment.objective import Objective

    if summary.best is None:
        return "–"
    label = "" if summary.objective == "top1" else f" {Objective(summary.objective).label}"
    return f"{summary.best:.4f}{label}"


if __name__ == "__main__":
    raise SystemExit(main())
