"""Inputs of a classifier in the forms that users have them, and the problems of those that cannot be read."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from trainables.data.datasets.formats import open_image, register_readers, unread_content
from trainables.data.decoding import Resize, decode
from trainables.data.images import Pixels
from trainables.errors import BadInput, Problem, os_reason

IMAGE_COLUMN = "image"
"""Column with the images, of a DataFrame with several columns."""

EncodedOrPixels = Any
"""One image: a path, the bytes of an image file, or integers H×W×3 in 0…255 (an array or nested lists)."""

Source = Literal["user", "request"]
"""Sender of the inputs: the `user` of this process, whose paths are opened; or a `request` to a model server, whose
client must not read the server's files. There a string is the base64 form of an image file, as JSON has no bytes."""

EXPECTED: Mapping[Source, str] = {
    "user": "an image file, its bytes, or integers H×W×3 from 0 to 255",
    "request": "the bytes of an image file, their base64, or integers H×W×3 from 0 to 255 (no path)",
}
MAX_SHOWN = 40
"""Number of characters of an unreadable string that an error shows: it may be a whole file in base64."""

Item = EncodedOrPixels
"""One image, or one text for a model of texts."""


def as_items(images: Any) -> Iterator[Item]:
    """Iterates over the single inputs in any of the forms that `Classifier.predict_proba` takes.

    Raises BadInput for a DataFrame of several columns without `IMAGE_COLUMN`.

    >>> list(as_items("apple.jpg")), list(as_items(pd.DataFrame({"image": ["apple.jpg", "pear.jpg"]})))
    (['apple.jpg'], ['apple.jpg', 'pear.jpg'])
    """
    if isinstance(images, pd.DataFrame):
        images = _image_column(images)
    if isinstance(images, str | bytes | Path) or (isinstance(images, np.ndarray) and images.ndim in (0, 3)):
        images = [images]
    yield from images


def decode_items(
    items: Sequence[EncodedOrPixels], first: int, side: int, resize: Resize, source: Source = "user"
) -> tuple[Pixels, dict[int, Problem]]:
    """Decodes images to uint8 N×side×side×3, with the problems of those that cannot be read, by position in `items`;
    their rows are zeros.

    `first` is the position of the first one, for messages.
    """
    pixels = np.zeros((len(items), side, side, 3), dtype=np.uint8)

    def into_row(i: int) -> Problem | None:
        try:
            pixels[i] = decode(_opened(items[i], source), side, resize)
        except Exception as error:  # Pillow's readers raise any kind of error
            return _unreadable(items[i], first + i, error, source)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = pool.map(into_row, range(len(items)))
        return pixels, {i: problem for i, problem in enumerate(problems) if problem is not None}


def text_problems(items: Sequence[Item], first: int) -> dict[int, Problem]:
    """Problems of inputs that are not strings, by position; `first` is that of the first one, for messages."""
    return {
        i: Problem(f"text {first + i}", "a string", type(item).__name__)
        for i, item in enumerate(items)
        if not isinstance(item, str)
    }


def _image_column(frame: pd.DataFrame) -> pd.Series:
    if IMAGE_COLUMN in frame.columns:
        return frame[IMAGE_COLUMN]
    if frame.shape[1] == 1:
        return frame.iloc[:, 0]
    columns = ", ".join(map(str, frame.columns))
    raise BadInput(Problem("images", f"a column {IMAGE_COLUMN!r}, or only one column", f"the columns {columns}"))


def _opened(item: EncodedOrPixels, source: Source) -> Image.Image:
    if isinstance(item, str | Path):
        if source == "user":
            return open_image(item)
        item = _from_base64(str(item))
    if isinstance(item, bytes | bytearray):
        register_readers()
        return Image.open(io.BytesIO(item))
    pixels = np.asarray(item)
    if pixels.dtype.kind not in "ui" or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise TypeError(f"{pixels.dtype} of shape {'×'.join(map(str, pixels.shape)) or 'none'}")
    if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
        raise TypeError(f"values from {pixels.min()} to {pixels.max()}")
    return Image.fromarray(pixels.astype(np.uint8))


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
        raise TypeError(f"{shown!r}, which is not base64") from None


def _unreadable(item: EncodedOrPixels, position: int, error: Exception, source: Source) -> Problem:
    is_path = source == "user" and isinstance(item, str | Path)
    where = str(item) if is_path else f"image {position}"
    match error:
        case TypeError():
            return Problem(where, EXPECTED[source], str(error))
        case UnidentifiedImageError():
            said = unread_content(item) if is_path else ""
            return Problem(where, "an image file", said or "a format that Pillow does not know")
        case OSError(strerror=str()):
            return Problem(where, "an image file", os_reason(error))
        case _:
            return Problem(where, "an image file", f"{type(error).__name__}: {error}")
