"""Syncs MLflow with a run: `python -m tuner.replay RUN`.

A search does so while it runs. This command is for a run that ended without its store, or for another store.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trainables.plugins import use_plugins
from tuner.cli.arguments import FAILED, SUCCEEDED, add_directory_flag, add_plugin_flag, guarded
from tuner.cli.commands import command_parser
from tuner.record.find import find_run
from tuner.record.plugin_record import use_recorded_plugins


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: MLflow is in sync; 2: bad input, or an unreachable store; 1: any other end."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("replay")
    add = parser.add_argument
    add("run", metavar="RUN", help="its name (the latest run), NAME/RUN, or its experiment directory")
    add("--from-start", action="store_true", help="send every event, also those that MLflow is known to have")
    add("--tracking-uri", metavar="URI", help="the store (default: that of the run)")
    add_directory_flag(parser)
    add_plugin_flag(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Replays the run into its store, or into the given one. Raises BadInput if there is no such run or store."""
    from tuner.experiment.settings import tracking_key
    from tuner.messages.redaction import redact_logging
    from tuner.tracking.registry import TrackingFailed
    from tuner.tracking.replay import replay, store_of

    redact_logging()
    use_plugins(arguments.plugin)
    directory = find_run(arguments.run, arguments.directory, "RUN")
    use_recorded_plugins(directory)
    uri = store_of(directory, arguments.tracking_uri)
    where = "--tracking-uri" if arguments.tracking_uri else tracking_key(None)
    try:
        replay(directory, uri, arguments.from_start, where=where)
    except TrackingFailed as failure:
        print(f"MLflow is not in sync yet: {failure}; repeat the command")
        return FAILED
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
