"""What is in these photos, as a trained model sees it.

python -m tuner.predict --model models:/digits@champion photo.jpg
python -m tuner.predict --model experiments/digits/2025-01-31_12-00-00/model *.jpg --top 3
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd
from rich.console import Console
from rich.table import Table

from trainables.classifier import CLASS_PREFIX, Classifier
from trainables.errors import BadInput, Problem
from tuner.cli.commands import command_parser


class Predictor(Protocol):
    """What a `Classifier` and a model out of MLflow have in common."""

    def predict(self, images: list[str]) -> pd.DataFrame:
        """A row an image, see `Classifier.predict`."""
        ...


class Guess(NamedTuple):
    """A class and how probable it is, in [0, 1]."""

    class_name: str
    probability: float


def main(argv: list[str] | None = None) -> int:
    """Prints the most probable classes of every photo. Returns 0, or 2 where the input is bad."""
    arguments = _parser().parse_args(argv)
    try:
        guesses = predict(arguments.model, arguments.photos, arguments.top, arguments.tracking_uri)
    except BadInput as bad:
        for problem in bad.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    if arguments.json:
        _print_json(guesses)
    elif sys.stdout.isatty():
        _print_table(guesses)
    else:
        _print_lines(guesses)
    return 0


def predict(model: str, photos: Sequence[str], top: int, uri: str | None = None) -> dict[str, list[Guess]]:
    """The `top` most probable classes of every photo, best first. Raises BadInput with everything that is wrong."""
    try:
        predictor = load_predictor(model, uri)
    except BadInput as no_model:
        missing = [Problem(photo, "an image file", "no such file") for photo in photos if not Path(photo).is_file()]
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
    """The classifier in a folder, or what an MLflow URI (`models:/…`, `runs:/…`) names in the store at `uri`."""
    if re.match(r"[a-z]+:/", model) is None:
        return Classifier.load(Path(model))
    from tuner.experiment.settings import tracking_uri
    from tuner.tracking.registry import load_model

    loaded: Predictor = load_model(model, tracking_uri(uri))
    return loaded


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("predict")
    parser.add_argument("photos", nargs="+", metavar="photo", help="image file, or a text for a model of texts")
    parser.add_argument("--model", required=True, help="models:/<name>@champion, or a search's model folder")
    parser.add_argument("--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else ./mlflow.db)")
    parser.add_argument("--top", type=_count, default=5, help="classes to name for each photo (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON, with probabilities instead of percentages")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number above 0, got {text!r}")
    return int(text)


def _print_json(guesses: dict[str, list[Guess]]) -> None:
    plain = {photo: [guess._asdict() for guess in best] for photo, best in guesses.items()}
    print(json.dumps(plain, indent=2, ensure_ascii=False))


def _print_table(guesses: dict[str, list[Guess]]) -> None:
    table = Table("photo", "class")
    table.add_column("probability", justify="right")
    for photo, best in guesses.items():
        for position, guess in enumerate(best):
            last = position == len(best) - 1
            table.add_row("" if position else photo, guess.class_name, f"{guess.probability:.1%}", end_section=last)
    Console().print(table)


def _print_lines(guesses: dict[str, list[Guess]]) -> None:
    for photo, best in guesses.items():
        for guess in best:
            print(f"{photo}\t{guess.class_name}\t{guess.probability:.1%}")


if __name__ == "__main__":
    sys.exit(main())
