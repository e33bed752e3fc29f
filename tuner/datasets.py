"""Lists the datasets that `data.dataset` can be: `python -m tuner.datasets`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trainables.plugins import use_plugins
from tuner.cli.arguments import SUCCEEDED, guarded
from tuner.cli.listing import listing_parser, print_listing


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the name and a summary of each dataset, one a line. Returns 0, or 2 if a plugin cannot be used."""
    arguments = listing_parser("datasets").parse_args(argv)
    return guarded(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Prints the datasets, those of plugins included. Raises BadInput as `use_plugins`."""
    use_plugins(arguments.plugin)
    from trainables.data.datasets.registry import list_datasets  # imports torch, which `--help` does not need

    print_listing(list_datasets(), arguments.json)
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
