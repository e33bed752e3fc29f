"""Lists the methods of fine-tuning that `method.name` can be: `python -m tuner.methods`."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.cli.arguments import SUCCEEDED
from tuner.cli.listing import listing_parser, print_listing


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the name and a summary of each method, one a line. Returns 0."""
    arguments = listing_parser("methods").parse_args(argv)
    from trainables.methods import list_methods  # imports torch, which `--help` does not need

    print_listing(list_methods(), arguments.json)
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
