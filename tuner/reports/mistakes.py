"""Mistakes of the model, and labels that are probably wrong, with their pictures or texts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from trainables.data.examples import Examples
from trainables.data.images import LabelledImages, Pixels
from trainables.files import write_whole
from trainables.frozen import Frozen
from tuner.record.directory import RunDirectory
from tuner.reports.evaluation import Evaluation, ModelEvaluation
from tuner.reports.page_templates import TEMPLATES

Kind = Literal["mistake", "label_issue"]
MAX_PICTURES = 300
"""Examples of each kind that are kept with a picture; the table of predictions has all."""
ON_PAGE: dict[Kind, int] = {"mistake": 24, "label_issue": 12}
"""Of each kind, how many the report itself shows."""
THUMBNAIL_PX = 112
MAX_TEXT_CHARACTERS = 300


class Mistake(Frozen):
    """An example whose label the model does not say, or that is probably wrong. Probabilities are in [0, 1]."""

    kind: Kind
    split: str
    example: str
    label: str
    predicted: str
    probability: float
    """Of the predicted class."""
    label_probability: float
    """Of the class that the label says."""
    picture: str = ""
    """A `data:` URI of a JPEG; "" of a text."""
    text: str = ""


MISTAKES = TypeAdapter(list[Mistake])


def write_mistakes(
    directory: RunDirectory, evaluation: ModelEvaluation, title: str, train: Examples, test: Examples | None
) -> None:
    """Writes the mistakes of the model into the run directory: as JSON for the report, and as a page of all of them.

    Mistakes are those of the test split, where the model was tested; probably wrong labels are those of the training
    examples, which were predicted out of fold. Raises OSError.
    """
    tested, examples = evaluation.test, test
    if tested is None or examples is None:
        tested, examples = evaluation.validation, train
    names = evaluation.names
    found = [
        *_mistakes("mistake", tested, tested.mistakes(), names.class_names, names.of(tested.split), examples),
        *_mistakes(
            "label_issue",
            evaluation.validation,
            evaluation.validation.label_issues(),
            names.class_names,
            names.train,
            train,
        ),
    ]
    write_whole(directory.mistakes_data, MISTAKES.dump_json(found))
    page = TEMPLATES.get_template("mistakes.html").render(title=title, groups=grouped(found))
    write_whole(directory.mistakes, page.encode())


def read_mistakes(directory: RunDirectory) -> list[Mistake]:
    """Reads the mistakes of a run directory; none where they are missing or cannot be read."""
    try:
        return MISTAKES.validate_json(directory.mistakes_data.read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError):
        return []


def grouped(mistakes: Sequence[Mistake], limits: dict[Kind, int] | None = None) -> dict[Kind, list[Mistake]]:
    """Mistakes by their kind, at most so many of each."""
    kinds: tuple[Kind, ...] = ("mistake", "label_issue")
    found = {kind: [each for each in mistakes if each.kind == kind] for kind in kinds}
    return {kind: each[: None if limits is None else limits[kind]] for kind, each in found.items() if each}


def _mistakes(
    kind: Kind,
    evaluation: Evaluation,
    positions: np.ndarray,
    class_names: Sequence[str],
    names: Sequence[str],
    examples: Examples,
) -> Iterator[Mistake]:
    kept = evaluation.predictions
    for position in positions[:MAX_PICTURES].tolist():
        index, label = int(kept.index[position]), int(kept.labels[position])
        shares = kept.probabilities[position]
        predicted = int(shares.argmax())
        picture, text = _shown(examples, index)
        yield Mistake(
            kind=kind,
            split=evaluation.split,
            example=names[index],
            label=class_names[label],
            predicted=class_names[predicted],
            probability=float(shares[predicted]),
            label_probability=float(shares[label]),
            picture=picture,
            text=text,
        )


def _shown(examples: Examples, index: int) -> tuple[str, str]:
    """The picture or the text of the example at a position in the sample."""
    if isinstance(examples, LabelledImages):
        return _thumbnail(examples.pixels[index]), ""
    return "", examples.texts[index][:MAX_TEXT_CHARACTERS]


def _thumbnail(pixels: Pixels) -> str:
    file, image = io.BytesIO(), Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
