"""Lists the datasets that `data.dataset` can be: `python -m tuner.datasets`."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.cli.arguments import SUCCEEDED
from tuner.cli.listing import listing_parser, print_listing


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the name and a summary of each dataset, one a line. Returns 0."""
    arguments = listing_parser("datasets").parse_args(argv)
    from trainables.data.datasets.registry import list_datasets  # imports torch, which `--help` does not need

    print_listing(list_datasets(), arguments.json)
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
