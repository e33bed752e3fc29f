"""Bring MLflow into line with a run: `python -m tuner.replay RUN`.

A search does so by itself while it runs. This is for what has ended: without its store, with another one, or killed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tuner.cli.arguments import FAILED, SUCCEEDED, guarded
from tuner.cli.commands import command_parser
from tuner.record.find import EXPERIMENTS, find_run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: MLflow is in line; 2: bad input, a store that is away included; 1: otherwise."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("replay")
    add = parser.add_argument
    add("run", metavar="RUN", help="its name (the latest run), NAME/RUN, or its experiment directory")
    add("--from-start", action="store_true", help="carry over everything, also what MLflow is known to have")
    add("--tracking-uri", metavar="URI", help="the store (default: the one that it was recorded in)")
    add("--directory", type=Path, default=EXPERIMENTS, metavar="FOLDER", help="where the experiments lie")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Replays the run into its store, or into the one given."""
    from tuner.messages.redaction import redact_logging
    from tuner.tracking.registry import TrackingFailed
    from tuner.tracking.replay import replay, store_of

    redact_logging()
    directory = find_run(arguments.run, arguments.directory, "RUN")
    try:
        replay(directory, store_of(directory, arguments.tracking_uri), arguments.from_start)
    except TrackingFailed as failure:
        print(f"MLflow is not in line yet: {failure}; give the command again")
        return FAILED
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
