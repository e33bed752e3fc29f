"""What lies in the experiments folder, and how it stands: `python -m tuner.list`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.cli.arguments import FOUND, guarded
from tuner.cli.commands import command_parser
from tuner.messages.wording import age
from tuner.record.find import EXPERIMENTS
from tuner.record.summary import State, Summary, summaries_of

STYLES: dict[State, str] = {"running": "green", "finished": "", "interrupted": "yellow"}


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = command_parser("list")
    add = parser.add_argument
    add("--directory", type=Path, default=EXPERIMENTS, metavar="FOLDER", help="where the experiments lie")
    add("--json", metavar="FILE", help="write it there for other programs; - is the standard output")
    arguments = parser.parse_args(argv)
    return guarded(lambda: show(arguments.directory, arguments.json))


def show(root: Path, json_file: str | None) -> int:
    """Prints the table, or writes it as JSON."""
    summaries = list(summaries_of(root))
    if json_file is None:
        Console(highlight=False).print(table_of(summaries) if summaries else f"no experiment lies in {root}")
        return FOUND
    text = json.dumps([asdict(summary) for summary in summaries], indent=2) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
    else:
        Path(json_file).write_text(text, encoding="utf-8")
    return FOUND


def table_of(summaries: Iterable[Summary]) -> Table:
    """For a person."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("search", "state", "trials", "best", "age", "last event", ""):
        table.add_column(heading, overflow="fold")
    now = time.time()
    for s in summaries:
        counts = ", ".join(f"{count} {state}" for state, count in s.counts.items() if count)
        of = f"{sum(s.counts.values())}/{s.asked}"
        last = f"{s.last_event.replace('_', ' ')} {age(now - s.last_event_s)} ago"
        table.add_row(
            f"{s.name}/{s.run}",
            Text(s.state, STYLES.get(s.state, "red")),
            f"{of} ({counts})" if counts else of,
            "–" if s.best is None else f"{s.best:.4f}",
            age(now - s.started_s),
            last,
            Text(s.why),
        )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
