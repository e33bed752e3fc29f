"""Lists the datasets that `data.dataset` can be: `python -m tuner.datasets`."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.cli.arguments import SUCCEEDED
from tuner.cli.listing import listing_parser, print_listing


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line each: a dataset's name and, in a sentence, what it is. Returns 0."""
    arguments = listing_parser("datasets").parse_args(argv)
    from trainables.data.datasets.registry import list_datasets  # with torch, which `--help` does not wait for

    print_listing(list_datasets(), arguments.json)
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
