"""Classifies photos, or texts, with a trained model.

python -m tuner.predict --model models:/digits@champion photo.jpg
python -m tuner.predict --model experiments/digits/20261129-101500-ab12/model *.jpg --top 3
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from trainables.errors import BadInput, Problem
from trainables.plugins import use_plugins
from tuner.cli.arguments import SUCCEEDED, add_plugin_flag, guarded
from tuner.cli.commands import command_parser

if TYPE_CHECKING:
    import pandas as pd


class Predictor(Protocol):
    """Interface that a `Classifier` and a model of MLflow share."""

    def predict(self, images: list[str]) -> pd.DataFrame:
        """Predicts a row for each image; see `Classifier.predict`."""
        ...


class Guess(NamedTuple):
    """A class and its probability in [0, 1]."""

    class_name: str
    probability: float


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: every photo has its classes; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("predict")
    add = parser.add_argument
    add("photos", nargs="+", metavar="photo", help="image file, or a text for a model of texts")
    add("--model", required=True, help="models:/<name>@champion, or a search's model folder")
    add("--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else ./mlflow.db)")
    add("--top", type=_count, default=5, help="classes to name for each photo (default: 5)")
    add("--json", action="store_true", help="print JSON, with probabilities instead of percentages")
    add_plugin_flag(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the most probable classes of every photo. Raises as `predict`."""
    use_plugins(arguments.plugin)
    guesses = predict(arguments.model, arguments.photos, arguments.top, arguments.tracking_uri)
    if arguments.json:
        _print_json(guesses)
    elif sys.stdout.isatty():
        _print_table(guesses)
    else:
        _print_lines(guesses)
    return SUCCEEDED


def predict(model: str, photos: Sequence[str], top: int, uri: str | None = None) -> dict[str, list[Guess]]:
    """Finds the `top` most probable classes of every photo, best first, by photo.

    `model` and `uri` are as for `load_predictor`.

        predict("models:/digits@champion", ["photo.jpg"], top=3)["photo.jpg"][0].class_name

    Raises:
        BadInput: with every photo that cannot be read, and with a model that cannot be loaded.
    """
    from trainables.classifier import CLASS_PREFIX

    try:
        predictor = load_predictor(model, uri)
    except BadInput as no_model:
        missing = [Problem(photo, "an image file", "no such file") for photo in photos if not os.path.isfile(photo)]
        raise BadInput([*no_model.problems, *missing]) from None
    predictions = predictor.predict(list(photos))
    probabilities = predictions.filter(regex=f"^{re.escape(CLASS_PREFIX)}").rename(
        columns=lambda column: column.removeprefix(CLASS_PREFIX)
    )
    return {
        photo: [Guess(name, float(value)) for name, value in row.nlargest(top).items()]
        for photo, (_, row) in zip(photos, probabilities.iterrows(), strict=True)
    }


def load_predictor(model: str, uri: str | None = None) -> Predictor:
    """Loads the classifier in a folder, or the model that an MLflow URI (`models:/…`, `runs:/…`) names.

    `uri` is that of the MLflow store; without it MLFLOW_TRACKING_URI, else `mlflow.db` in the working folder.

    Raises:
        BadInput: where there is no such model.
    """
    if re.match(r"[a-z]+:/", model) is None:
        from trainables.classifier import Classifier

        return Classifier.load(Path(model))
    from tuner.experiment.settings import tracking_uri
    from tuner.tracking.registry import load_model

    loaded: Predictor = load_model(model, tracking_uri(uri))
    return loaded


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(str(Problem("", "a whole number above 0", repr(text))))
    return int(text)


def _print_json(guesses: Mapping[str, Sequence[Guess]]) -> None:
    import json

    plain = {photo: [guess._asdict() for guess in best] for photo, best in guesses.items()}
    print(json.dumps(plain, indent=2, ensure_ascii=False))


def _print_table(guesses: Mapping[str, Sequence[Guess]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from tuner.cli.console import text_console

    table = Table("photo", "class")
    table.add_column("probability", justify="right")
    for photo, best in guesses.items():
        for position, guess in enumerate(best):
            last = position == len(best) - 1
            cells = ("" if position else photo, guess.class_name, f"{guess.probability:.1%}")
            table.add_row(*map(Text, cells), end_section=last)
    text_console().print(table)


def _print_lines(guesses: Mapping[str, Sequence[Guess]]) -> None:
    for photo, best in guesses.items():
        for guess in best:
            print(f"{photo}\t{guess.class_name}\t{guess.probability:.1%}")


if __name__ == "__main__":
    raise SystemExit(main())
