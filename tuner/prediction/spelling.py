"""Predictions and scores for a person, as lines or a table, and for other programs, as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tuner.messages.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from trainables.class_scores import ClassScores, ShareRight
    from tuner.prediction.photo_predictions import PhotoPredictions

UNLIKE_ANYTHING = "unlike anything seen"
MAX_CONFUSIONS = 10
"""Number of confused pairs that are printed."""


def printable(text: str) -> str:
    r"""Returns `text` with the bytes of a file name that are no UTF-8 escaped.

    >>> printable("caf\udce9.jpg")
    'caf\\udce9.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def prediction_lines(predictions: PhotoPredictions, top: int) -> Iterator[str]:
    """Yields a line for each of the `top` classes of each input, separated by tabs: name, class, probability, and where
    it is so, that the input is unlike anything seen."""
    for i in predictions:
        mark = f"\t{UNLIKE_ANYTHING}" if predictions.is_unlike(i) else ""
        for guess in predictions.guesses(i, top):
            yield f"{printable(predictions.names[i])}\t{guess.class_name}\t{guess.probability:.1%}{mark}"


def prediction_table(predictions: PhotoPredictions, top: int) -> Table:
    """Makes a table for the terminal with the `top` classes of each input."""
    from rich.table import Table
    from rich.text import Text

    table = Table("photo", "class")
    table.add_column("probability", justify="right")
    for i in predictions:
        guesses = predictions.guesses(i, top)
        for position, guess in enumerate(guesses):
            name = Text("" if position else printable(predictions.names[i]))
            if predictions.is_unlike(i) and not position:
                name.append(f" ({UNLIKE_ANYTHING})", "yellow")
            last = position == len(guesses) - 1
            table.add_row(name, Text(guess.class_name), f"{guess.probability:.1%}", end_section=last)
    return table


def predictions_as_json(predictions: PhotoPredictions, top: int) -> dict[str, Any]:
    """Returns the `top` classes of each input by its name; of a calibrated model each says whether the input is unlike
    anything seen."""
    return {
        printable(predictions.names[i]): [
            guess._asdict() | ({} if predictions.unlike is None else {"unlike": predictions.is_unlike(i)})
            for guess in predictions.guesses(i, top)
        ]
        for i in predictions
    }


def summary_lines(predictions: PhotoPredictions) -> Iterator[str]:
    """Yields how many inputs are of which class, for predictions that are written to a file."""
    counts = ", ".join(f"{count} {name}" for name, count in predictions.counts().items())
    num_read = len(predictions.names) - len(predictions.problems)
    yield f"{counted(num_read, 'photo')} classified" + (f": {counts}" if counts else "")
    if predictions.unlike is not None:
        yield f"{predictions.num_unlike} {UNLIKE_ANYTHING}"


def score_lines(scores: ClassScores) -> Iterator[str]:
    """Yields the scores on labelled photographs: top-1, the accuracy of each class, the pairs that are confused."""
    yield f"top-1 {spell_share(scores.top1)}"
    width = max(map(len, scores.classes), default=0)
    yield "classes, the least accurate first"
    for name, of_class in scores.classes.items():
        yield f"  {name:<{width}}  {spell_share(of_class)}"
    if scores.confusions:
        more = len(scores.confusions) - MAX_CONFUSIONS
        yield "confused, the most frequent first" + (f" ({more} more pairs)" if more > 0 else "")
    for pair in scores.confusions[:MAX_CONFUSIONS]:
        yield f"  {pair.num:>4} {pair.label} taken for {pair.predicted}"


def spell_share(share: ShareRight) -> str:
    """Formats an accuracy with its 95 % confidence interval: `0.8000 (0.4902 to 0.9433), 8 of 10`."""
    low, high = share.interval()
    return f"{share.share:.4f} ({low:.4f} to {high:.4f}), {share.num_right} of {share.num}"


def scores_as_json(scores: ClassScores) -> dict[str, Any]:
    """Returns the scores as plain data."""
    return {
        "top1": _share_as_json(scores.top1),
        "classes": {name: _share_as_json(share) for name, share in scores.classes.items()},
        "confusions": [pair.model_dump() for pair in scores.confusions],
    }


def _share_as_json(share: ShareRight) -> dict[str, Any]:
    low, high = share.interval()
    return {"share": share.share, "low": low, "high": high, "num_right": share.num_right, "num": share.num}
