"""Writes a picture of a training batch as the network sees it: `python -m tuner.preview --space FILE`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import BadInput, Problem
from tuner.cli.arguments import SUCCEEDED, add_space_flags, guarded, overrides_of, writing
from tuner.cli.commands import command_parser
from tuner.experiment.packaged_spaces import find_space

if TYPE_CHECKING:  # imported when the command runs, so that `--help` is quick
    from trainables.config import TrialConfig
    from trainables.data.images import LabelledImages
    from tuner.experiment.search_experiment import SearchExperiment

OUTPUT = Path("preview.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: the picture is written; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("preview")
    add_space_flags(parser, required=True)
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help=f"the PNG (default: {OUTPUT})")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Writes the picture of the first configuration's first batch, and prints its file.

    Raises:
        BadInput: if the experiment or its images cannot be read, or the picture cannot be written.
    """
    from trainables.preview import preview_png
    from tuner.experiment.extends import locate_problems
    from tuner.experiment.search_experiment import load_experiment

    file, overrides = find_space(arguments.space, "--space"), overrides_of(arguments)
    space = load_experiment(file, overrides)
    with locate_problems(file, overrides):
        config = first_config(space)
        images = load_images(config, space.file)
    png = preview_png(config, images)
    with writing("--output", arguments.output):
        arguments.output.write_bytes(png)
    print(arguments.output)
    return SUCCEEDED


def first_config(space: SearchExperiment) -> TrialConfig:
    """The configuration of the first trial: of the first of `search.first_points`, where it says less of the first
    value of each dimension."""
    points = space.search.first_points
    return space.trial_config(space.branches.completed(space.dimensions, points[0] if points else {}))


def load_images(config: TrialConfig, file: str) -> LabelledImages:
    """Loads the training images of `config`, which comes from `file`. Raises BadInput, also if they are texts."""
    from trainables.data.images import LabelledImages
    from trainables.data.loading import load_train

    try:
        examples = load_train(config.data)
    except BadInput as bad:
        raise bad.under("data").in_file(file) from None
    if not isinstance(examples, LabelledImages):
        got = f"{config.data.dataset}, which is of texts"
        raise BadInput(Problem("data.dataset", "a dataset of images", got, file=file))
    return examples


if __name__ == "__main__":
    raise SystemExit(main())
