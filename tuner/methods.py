"""Lists the methods of fine-tuning that `method.name` can be: `python -m tuner.methods`."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.cli.arguments import SUCCEEDED
from tuner.cli.listing import listing_parser, print_listing


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line each: a method's name and, in a sentence, what it does. Returns 0."""
    arguments = listing_parser("methods").parse_args(argv)
    from trainables.methods import list_methods  # with torch, which `--help` does not wait for

    print_listing(list_methods(), arguments.json)
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
