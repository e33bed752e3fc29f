"""Classifies photos, or texts, with a trained model.

python -m tuner.predict photo.jpg                                          # by the latest model
python -m tuner.predict photos/ --output predictions.csv                   # everything below a folder
python -m tuner.predict photos/test --score                                # folders of classes: how good is it?
python -m tuner.predict --model models:/digits@champion *.jpg --top 3
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import BadInput, Problem
from trainables.plugins import use_plugins
from tuner.cli.arguments import FAILED, SUCCEEDED, add_plugin_flag, guarded, writing
from tuner.cli.commands import command_parser
from tuner.prediction.given_model import add_model_flags, given_model

if TYPE_CHECKING:
    from trainables.classifier import Classifier
    from trainables.data.images import Ints
    from tuner.prediction.photo_predictions import PhotoPredictions

PROGRESS_FROM = 200
"""Number of photos from which on progress is shown."""
NUM_PROGRESS_LINES = 10
"""Number of lines of progress where there is no terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code 0: every photo has its classes; 1: some cannot be read; 2: bad input."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = command_parser("predict")
    add = parser.add_argument
    photos = "image file, folder with image files somewhere below it, or quoted pattern; a text for a model of texts"
    add("photos", nargs="+", metavar="photo", help=photos)
    add_model_flags(parser)
    add("--score", action="store_true", help="the folders hold a folder for each class: print how good the model is")
    add("--output", type=Path, metavar="FILE", help="write a row for each photo there, as CSV")
    add("--top", type=_count, default=5, help="classes to name for each photo (default: 5)")
    add("--json", action="store_true", help="print JSON, with probabilities instead of percentages")
    add_plugin_flag(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints or writes what the model says of every photo. Returns 1 if some cannot be read.

    Raises:
        BadInput: with every argument that stands for no photo, and with a model that cannot be loaded.
    """
    use_plugins(arguments.plugin)
    output: Path | None = arguments.output
    if output is not None:
        _require_writable(output)
    classifier = _model_for(arguments)
    names, labels = _inputs(arguments, classifier)
    from tuner.prediction.photo_predictions import predict_photos, write_csv

    with _progress(len(names)) as on_progress:
        predictions = predict_photos(classifier, names, on_progress)
    if output is not None:
        with writing("--output", output):
            write_csv(predictions, output, labels)
    _show(predictions, labels, arguments)
    for problem in predictions.problems.values():
        print(f"error: {problem}", file=sys.stderr)
    if predictions.problems and len(names) > 1:
        print(f"{len(predictions.problems)} of {len(names)} cannot be read", file=sys.stderr)
    return FAILED if predictions.problems else SUCCEEDED


def _model_for(arguments: argparse.Namespace) -> Classifier:
    """Loads the model; if that fails, missing photos are named, too."""
    try:
        return given_model(arguments)
    except BadInput as no_model:
        from tuner.prediction.photos import photos_of

        try:
            photos_of(arguments.photos)
        except BadInput as no_photos:
            raise BadInput([*no_model.problems, *no_photos.problems]) from None
        raise


def _inputs(arguments: argparse.Namespace, classifier: Classifier) -> tuple[Sequence[str], Ints | None]:
    """The files or texts to predict, with their labels if they are to be scored."""
    from tuner.prediction.photos import labelled_photos, photos_of

    if classifier.config.data.has_texts:
        if arguments.score:
            raise BadInput(Problem("--score", "a model of images", "one of texts"))
        return arguments.photos, None
    if arguments.score:
        return labelled_photos(arguments.photos, classifier.class_names)
    return photos_of(arguments.photos), None


def _show(predictions: PhotoPredictions, labels: Ints | None, arguments: argparse.Namespace) -> None:
    """Prints scores of labelled photos, or the number of each class if a file has the predictions, or predictions."""
    from tuner.prediction import spelling

    if labels is not None:
        _show_scores(predictions, labels, arguments.json)
    elif arguments.json:
        _print_json(spelling.predictions_as_json(predictions, arguments.top))
    elif arguments.output is not None:
        _print(spelling.summary_lines(predictions))
    elif sys.stdout.isatty():
        from tuner.cli.console import text_console

        text_console().print(spelling.prediction_table(predictions, arguments.top))
    else:
        _print(spelling.prediction_lines(predictions, arguments.top))


def _show_scores(predictions: PhotoPredictions, labels: Ints, as_json: bool) -> None:
    """Prints the scores, unless no photo was read."""
    from tuner.prediction.spelling import score_lines, scores_as_json

    if len(predictions.problems) == len(predictions.names):
        return
    scores = predictions.scores(labels)
    if as_json:
        _print_json(scores_as_json(scores))
    else:
        _print(score_lines(scores))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_json(plain: Mapping[str, Any]) -> None:
    import json

    print(json.dumps(plain, indent=2, ensure_ascii=False))


@contextmanager
def _progress(num_photos: int) -> Iterator[Callable[[int], object]]:
    """Shows the progress of many photos on stderr: as a bar on a terminal, elsewhere as some lines."""
    if num_photos < PROGRESS_FROM:
        yield lambda num_done: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("photos", total=num_photos)
            yield lambda num_done: progress.update(task, completed=num_done)
    else:
        yield _progress_lines(num_photos)


def _progress_lines(num_photos: int) -> Callable[[int], object]:
    tenths_said = 0

    def say(num_done: int) -> None:
        nonlocal tenths_said
        tenths = NUM_PROGRESS_LINES * num_done // num_photos
        if tenths > tenths_said:
            print(f"{num_done} of {num_photos} photos", file=sys.stderr, flush=True)
            tenths_said = tenths

    return say


def _require_writable(file: Path) -> None:
    """Checks the file of `--output` before the work. Raises BadInput."""
    from trainables.paths import why_not_writable  # with pydantic

    if reason := "a folder" if file.is_dir() else why_not_writable(file.absolute().parent):
        raise BadInput(Problem("--output", "a file that can be written", f"{file}: {reason}"))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(str(Problem("", "a whole number above 0", repr(text))))
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
