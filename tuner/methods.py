"""Lists the methods of fine-tuning that `method.name` can be: `python -m tuner.methods`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trainables.plugins import use_plugins
from tuner.cli.arguments import SUCCEEDED, guarded
from tuner.cli.listing import listing_parser, print_listing


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the name and a summary of each method, one a line. Returns 0, or 2 if a plugin cannot be used."""
    arguments = listing_parser("methods").parse_args(argv)
    return guarded(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Prints the methods, those of plugins included. Raises BadInput as `use_plugins`."""
    use_plugins(arguments.plugin)
    from trainables.methods import list_methods  # imports torch, which `--help` does not need

    print_listing(list_methods(), arguments.json)
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
