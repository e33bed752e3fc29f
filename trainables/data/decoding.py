"""Decoding of image files to RGB pixels of the stored size, on as many threads as there are cores."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from trainables.data.bit_depth import DeepSource, to_eight_bits
from trainables.data.datasets.formats import unread_content
from trainables.data.datasets.listing import Listing
from trainables.data.images import Pixels
from trainables.errors import BadInput, Problem

Resize = Literal["squash", "short_side"]

VERSION = 2
"""Raised when the same file is decoded to other pixels than before, so that cached ones are not used."""
DRAFT_MARGIN = 3
"""A JPEG is decoded at a half, quarter or eighth of its size if that is at least this times the stored side."""


def decode_all(listing: Listing, side: int, resize: Resize) -> Pixels:
    """Decodes the images of `listing` to uint8 N×side×side×3. Raises BadInput with every file that does not decode."""
    pixels = np.empty((len(listing), side, side, 3), dtype=np.uint8)

    def into_row(i: int) -> None:
        pixels[i] = decode(listing.read(i), side, resize)

    _for_each(listing, into_row)
    return pixels


def try_decoding(listing: Listing, side: int, resize: Resize) -> None:
    """Decodes as `decode_all`, without keeping the pixels."""
    _for_each(listing, lambda i: decode(listing.read(i), side, resize))


def decode(image: Image.Image, side: int, resize: Resize) -> Pixels:
    """Upright RGB pixels side×side×3, resized bicubically: squashed, or by the short side with a centre crop.

    Images of more than eight bits a channel are scaled to eight; see `trainables.data.bit_depth`.
    """
    with image:
        image.draft(None, (DRAFT_MARGIN * side, DRAFT_MARGIN * side))
        deep = DeepSource.of(image)
        image.load()
        upright = _upright(image)
        if deep is not None:
            upright = to_eight_bits(upright, deep, _upright)
        upright = _to_rgb(upright)
    if resize == "squash":
        return np.asarray(upright.resize((side, side), Image.Resampling.BICUBIC))
    return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.BICUBIC))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF is ignored, as the pixels are loaded
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Converts any mode of eight bits to RGB; transparent pixels become white."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image.convert("RGBA"))
    return opaque.convert("RGB")


def _for_each(listing: Listing, work: Callable[[int], object]) -> None:
    """Calls `work` for every position, and raises BadInput with all that failed."""

    def problem_at(i: int) -> Problem | None:
        try:
            work(i)
        except Exception as error:  # Pillow's readers raise any kind of error
            return _does_not_decode(listing, i, error)
        return None

    with _pillow_silent(), ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [problem for problem in pool.map(problem_at, range(len(listing))) if problem is not None]
    if problems:
        raise BadInput(problems)


def _does_not_decode(listing: Listing, i: int, error: Exception) -> Problem:
    name = listing.names[i]
    said = unread_content(name) if listing.in_files else ""
    return Problem("root", "images that decode", f"'{name}': {said or f'{type(error).__name__}: {error}'}")


@contextmanager
def _pillow_silent() -> Iterator[None]:
    """Suppresses Pillow's warnings (large image, odd EXIF, odd TIFF tags) inside the block.

    It is entered once around all threads, because warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
