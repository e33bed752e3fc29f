"""How long commands take before they do anything: `python -m benchmarks.startup`.

Each runs as a process of its own, in an empty folder; a figure is the median of `--runs` wall-clock times in seconds.

    help_s            `python -m tuner.search --help`
    mistyped_flag_s   `python -m tuner.search --spce smile.yaml`, which is refused
    empty_list_s      `python -m tuner.list`
    dry_run_s         `python -m tuner.search --space search_spaces/smile.yaml --dry-run`
    first_step_s      from the start of a search of search_spaces/smile.yaml, on a Ray cluster of its own, to its first
                      fold in the journal, where a fold is a single training step: that step has ended by then, and
                      the fold's validation part has been scored, so that it is at most what is measured

Processor time (user + system, of the process and those that it waited for) is printed beside it: other work on the
machine lengthens it less. `--against DIR` runs the same commands from another checkout, too, in turn, and prints the
median of the ratios, pair by pair.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure, report
from tuner.record.directory import JOURNAL
from tuner.resources.worker_environment import WORKER_ENVIRONMENT

HERE = Path(__file__).resolve().parent.parent
SPACE = "search_spaces/smile.yaml"
ONE_STEP = ("search.trials=2", "search.baselines=[]", "training.num_steps=1", "retrain.seeds=0")
"""What makes a fold a single step, and the search short; two trials are as many as the default trains at once here."""
TIMEOUT_S = 600.0
NOT_INHERITED = {*WORKER_ENVIRONMENT, "PYTHONPATH", "MLFLOW_TRACKING_URI"}
"""Variables that a user's shell does not have, or that would record the search elsewhere."""


class Command(NamedTuple):
    """A command: its figure and limit, what follows `python -m`, and its exit code.

    Of a `search`, the time to its first fold counts, of any other the whole process. A `SPACE` among the arguments is
    that of the checkout.
    """

    figure: str
    limit_s: float
    arguments: tuple[str, ...]
    exit_code: int = 0
    is_search: bool = False


COMMANDS = (
    Command("help_s", 0.5, ("tuner.search", "--help")),
    Command("mistyped_flag_s", 0.5, ("tuner.search", "--spce", "smile.yaml"), exit_code=2),
    Command("empty_list_s", 1.0, ("tuner.list",)),
    Command("dry_run_s", 4.0, ("tuner.search", "--space", SPACE, "--dry-run")),
    Command(
        "first_step_s",
        10.0,
        ("tuner.search", "--space", SPACE, *(word for leaf in ONE_STEP for word in ("--set", leaf))),
        is_search=True,
    ),
)


class Duration(NamedTuple):
    """Of one run: seconds by the clock, and of the processor; None for a search, which goes on after its first fold."""

    wall_s: float
    cpu_s: float | None


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; exit code 1 where a figure is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--runs", type=int, default=5, help="of each command")
    parser.add_argument("--only", action="append", choices=[command.figure for command in COMMANDS])
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, whose commands run in turn")
    return report(measure(parser.parse_args(argv)))


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The figures of this checkout."""
    checkouts = [HERE] if arguments.against is None else [HERE, arguments.against.resolve()]
    figures = []
    for command in COMMANDS:
        if arguments.only is not None and command.figure not in arguments.only:
            continue
        runs: dict[Path, list[Duration]] = {checkout: [] for checkout in checkouts}
        for number in range(arguments.runs):
            for checkout in checkouts if number % 2 == 0 else reversed(checkouts):
                runs[checkout].append(duration_of(command, checkout))
        for line in comparison(command, runs):
            print(line, flush=True)
        figures.append(Figure(command.figure, statistics.median(run.wall_s for run in runs[HERE]), command.limit_s))
    return figures


def comparison(command: Command, runs: dict[Path, list[Duration]]) -> list[str]:
    """Medians of each checkout, and the ratio of the other's to ours where there is another."""
    lines = []
    for checkout, durations in runs.items():
        cpu = [run.cpu_s for run in durations if run.cpu_s is not None]
        processor = f", {statistics.median(cpu):.2f} s of processor time" if cpu else ""
        wall = " ".join(f"{run.wall_s:.2f}" for run in durations)
        label = "here" if checkout == HERE else str(checkout)
        lines.append(f"{command.figure} {label}: {wall} s{processor}")
    if len(runs) == 2:
        ours, theirs = runs.values()
        ratio = statistics.median(b.wall_s / a.wall_s for a, b in zip(ours, theirs, strict=True))
        lines.append(f"{command.figure} there is {ratio:.2f} times that here")
    return lines


def duration_of(command: Command, checkout: Path) -> Duration:
    """Runs a command of a checkout. Raises RuntimeError where it ends otherwise than it should."""
    with tempfile.TemporaryDirectory(prefix="bench-startup-") as folder:
        before_s, started_s, start = _cpu_of_children_s(), time.time(), time.perf_counter()
        done = subprocess.run(
            command_line(command, checkout),
            cwd=folder,
            env=environment_of(checkout),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        wall_s = time.perf_counter() - start
        if done.returncode != command.exit_code:
            raise RuntimeError(f"{command.figure}: exit code {done.returncode} in {checkout}\n{done.stdout}")
        if not command.is_search:
            return Duration(wall_s, _cpu_of_children_s() - before_s)
        (journal,) = Path(folder).glob(f"experiments/*/*/{JOURNAL}")
        return Duration(first_fold_s(journal.read_text(encoding="utf-8")) - started_s, None)


def command_line(command: Command, checkout: Path) -> list[str]:
    """What is run, with the same interpreter."""
    return [sys.executable, "-m", *(str(checkout / SPACE) if word == SPACE else word for word in command.arguments)]


def environment_of(checkout: Path) -> dict[str, str]:
    """A shell's variables, with the packages of the checkout before those that are installed."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return kept | {"PYTHONPATH": str(checkout)}


def first_fold_s(journal: str) -> float:
    """Unix time of the first fold in a journal; as plain JSON, since another checkout may have another format."""
    events = (json.loads(line) for line in journal.splitlines())
    return float(next(event["time_s"] for event in events if event["event"] in ("fold_finished", "fold_ahead")))


def _cpu_of_children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
