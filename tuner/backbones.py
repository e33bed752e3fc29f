"""Lists the pre-trained networks that `backbone.name` can be: `python -m tuner.backbones '*resnet50*'`."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.errors import BadInput, Problem, did_you_mean
from tuner.cli.arguments import SUCCEEDED, guarded
from tuner.cli.listing import listing_parser, print_listing


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the names, one a line. Returns 0, or 2 if none matches the pattern."""
    parser = listing_parser("backbones")
    parser.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="as of file names: '*resnet50*'")
    arguments = parser.parse_args(argv)
    return guarded(lambda: run(arguments.pattern, arguments.json))


def run(pattern: str, as_json: bool) -> int:
    """Prints the names that match `pattern`. Raises BadInput if none does."""
    from trainables.backbones.registry import list_backbones  # imports torch, which `--help` does not need

    if not (names := list_backbones(pattern)):
        got = f"{pattern!r}{did_you_mean(pattern, list_backbones())}"
        raise BadInput(Problem("PATTERN", "a pattern that a backbone's name matches", got))
    print_listing(names, as_json)
    return SUCCEEDED


if __name__ == "__main__":
    raise SystemExit(main())
