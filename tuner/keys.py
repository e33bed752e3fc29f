"""Explains the keys of an experiment file: `python -m tuner.keys`, `python -m tuner.keys method.smile`."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainables.errors import BadInput, Problem, did_you_mean
from trainables.plugins import use_plugins
from tuner.cli.arguments import SUCCEEDED, guarded
from tuner.cli.listing import listing_parser, print_json, print_lines

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuner.experiment.keys import Key

PAGE = """# Every key

Written by `python -m tuner.keys --markdown > docs/keys.md` from the docstrings of the models;
[the experiment file](experiment-file.md) explains how they belong together. `method.smile.gamma_fe` is the key
`gamma_fe` below `method` where its `name` is `smile`; `[]` stands for an item of a list. Any leaf of `data`,
`backbone`, `method` and `training` may be a range instead ([dimensions](experiment-file.md#dimensions))."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = listing_parser("keys")
    help = "a section or key, e.g. search, method.smile or gamma_fe (default: all)"
    parser.add_argument("key", nargs="?", metavar="KEY", help=help)
    parser.add_argument("--markdown", action="store_true", help="print the page of the documentation")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the keys. Raises BadInput where there is none of that name, and as `use_plugins`."""
    from dataclasses import asdict

    use_plugins(arguments.plugin)
    keys = list(all_keys()) if arguments.key is None else find_keys(arguments.key)
    if arguments.json:
        print_json([asdict(key) for key in keys])
    elif arguments.markdown:
        print_lines(markdown_page(keys))
    else:
        import shutil

        from tuner.experiment.keys import as_text

        print_lines(as_text(keys, min(shutil.get_terminal_size().columns, 120)))
    return SUCCEEDED


def all_keys() -> Iterator[Key]:
    """Yields every key of an experiment file, of a search or a comparison."""
    from trainables.config import TrialConfig
    from tuner.comparison.settings import CompareSettings
    from tuner.experiment.keys import REQUIRED, Key, keys_of
    from tuner.experiment.search_experiment import MAX_NAME_CHARACTERS, SETTINGS

    values = f"letters, digits, '.', '_' and '-', at most {MAX_NAME_CHARACTERS}"
    yield Key("name", values, REQUIRED, "Name of the folder of records, the MLflow experiment and the model.")
    yield from (key for key in keys_of(TrialConfig) if key.path != "seed")
    models: dict[str, type[BaseModel]] = {**SETTINGS, "compare": CompareSettings}
    for section, model in models.items():
        yield from keys_of(model, section)


def find_keys(text: str) -> list[Key]:
    """Finds a section or key with all that is below it; of a part of a path, every key that has it.

    Raises:
        BadInput: where there is none.
    """
    from tuner.experiment.tree import is_within

    keys = list(all_keys())
    found = [key for key in keys if is_within(key.path, text)]
    found = found or [key for key in keys if _has_parts(key.path, text)]
    if not found:
        known = dict.fromkeys(word for key in keys for word in (key.path, key.path.rpartition(".")[2]))
        raise BadInput(Problem("KEY", "a section or key of an experiment file", f"{text!r}{did_you_mean(text, known)}"))
    return found


def _has_parts(path: str, text: str) -> bool:
    """Whether a path ends like `text` and has its other parts before, as `method.smile.alpha` does `method.alpha`."""
    parts, (*before, last) = path.split("."), text.split(".")
    rest = iter(parts[:-1])
    return parts[-1] == last and all(part in rest for part in before)


def markdown_page(keys: Sequence[Key]) -> Iterator[str]:
    """Yields the lines of the page: a table for each section."""
    from tuner.experiment.keys import as_markdown

    yield PAGE
    for section, inside in itertools.groupby(keys, lambda key: key.path.partition(".")[0]):
        first, *others = inside
        yield f"\n## `{section}`\n"
        if others:
            yield f"{first.meaning}\n"
        yield from as_markdown(others or [first])


if __name__ == "__main__":
    raise SystemExit(main())
