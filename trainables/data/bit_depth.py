"""Images of more than eight bits a channel, or of floats, scaled to eight.

Cameras and microscopes write 10, 12 or 14 bits into files of 16, and programs write floats from 0 to 1; of colours,
Pillow keeps the upper eight bits, which are nearly black for 12 bits in 16. White is what the file says, or else the
smallest usual white that no value of the image exceeds. It depends on the image alone, not on others beside it
(docs/decisions/0038-a-folder-is-read-as-it-was-meant.md).
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.images import Pixels

USUAL_WHITES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""Largest values of floats, and of 8, 10, 12, 14 and 16 bits."""
DARKEST = 16
"""Factor by which an image may stay below a usual white; below that its largest value is white."""
SCALED_BY_PILLOW = ("PPM", "JPEG2000")
"""Formats that state their largest value, and whose integers Pillow scales by it to 16 bits."""
MAX_SAMPLE_VALUES = (281, 341)
"""TIFF's tags MaxSampleValue and SMaxSampleValue."""
BITS_PER_SAMPLE = 258
"""TIFF's tag of the bits of each channel; a number that is no multiple of 8 states the range of the values."""
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""TIFF's tag of what the values mean, and its value for greys that are 0 in white."""
DEEP_MODES = ("I", "F")
"""Beginnings of the names of Pillow's modes of integers of 16 and 32 bits, and of floats."""

LA_16 = "LA;16B"
"""PNG's grey with alpha, which Pillow loads as RGBA. As raw RGBA its bands are the bytes of both channels."""

Values = NDArray[Any]


class DeepSource(NamedTuple):
    """What the file of an image of more than eight bits says besides the pixels that Pillow loads.

    `stated` is the largest value that it states, if any. `low` are the lower bytes of an image of 16 bits a colour, of
    which Pillow loads the upper ones, with the same pixels in the same places; `channels` are its bands that belong to
    those of the image. `is_inverted`: white is 0, which Pillow heeds in images of eight bits alone.
    """

    stated: float | None
    low: Image.Image | None = None
    channels: tuple[int, ...] = (0, 1, 2, 3)
    is_inverted: bool = False

    @classmethod
    def of(cls, image: Image.Image) -> Self | None:
        """Reads it from an image that has not been loaded. None if the image has eight bits a channel."""
        if image.mode.startswith(DEEP_MODES):
            is_inverted = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
            return cls(_stated_white(image), is_inverted=is_inverted)
        if image.mode not in ("RGB", "RGBA") or getattr(image, "fp", None) is None:
            return None
        tiles = list(getattr(image, "tile", ()))
        swapped = [_swapped(_raw_mode(tile)) for tile in tiles]
        if not tiles or not all(swapped):
            return None
        low = Image.open(_copy(image), formats=[str(image.format)])
        low.tile = [_with_raw_mode(tile, raw) for tile, raw in zip(tiles, swapped, strict=True)]
        channels = (1, 1, 1, 3) if _raw_mode(tiles[0]) == LA_16 else (0, 1, 2, 3)
        return cls(_stated_white(image), low, channels[: len(image.getbands())])


def to_eight_bits(image: Image.Image, source: DeepSource, upright: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Scales a loaded, upright image to eight bits a channel; `upright` turns the lower bytes of `source` likewise.

    Raises ValueError for floats none of which is finite.
    """
    upper = np.asarray(image)
    if source.low is None:
        greys = scaled(upper, source.stated)
        return Image.fromarray(255 - greys if source.is_inverted else greys)
    if upper[..., :3].max() > int(USUAL_WHITES[-2]) >> 8:
        return image  # white is that of 16 bits, and the upper bytes are what remains
    source.low.load()
    values = upper.astype(np.uint16) << 8 | np.asarray(upright(source.low))[..., source.channels]
    white = white_of(float(values[..., :3].max()), source.stated)
    colours = scaled(values[..., :3], white)
    if values.shape[-1] == 3:
        return Image.fromarray(colours)
    alpha = scaled(values[..., 3], white if values[..., 3].max() <= white else USUAL_WHITES[-1])
    return Image.fromarray(np.dstack([colours, alpha]))


def white_of(largest: float, stated: float | None = None) -> float:
    """The value that is white in an image whose largest value is `largest`.

    It is `stated` by the file, unless that is exceeded; else the smallest usual white, unless the image is much darker
    than that or exceeds all of them, whose white is `largest`. Floats up to 1 are as dark as they are.

    >>> white_of(3900), white_of(3900, stated=16383), white_of(0.3), white_of(1.2)
    (4095.0, 16383, 1.0, 1.2)
    """
    if stated is not None and largest <= stated:
        return stated
    usual = next((white for white in USUAL_WHITES if largest <= white), largest)
    return usual if usual == 1.0 or largest * DARKEST >= usual else largest


def scaled(values: Values, stated: float | None = None) -> Pixels:
    """Scales integers or floats of any shape to 0…255, from black at 0 (or the smallest value, if there are negative
    ones) to white. Values that are no numbers become black.

    Raises ValueError if none is finite.

    >>> scaled(np.array([0, 2048, 4095], dtype=np.uint16)).tolist()
    [0, 128, 255]
    """
    if values.dtype.kind == "f":
        values = _finite(values)
    smallest, largest = float(values.min()), float(values.max())
    black = min(smallest, 0.0)
    white = white_of(largest, stated) if black == 0 else max(largest, stated or largest)
    if black == 0 and values.dtype.kind in "iu" and white >= 255 and _is_all_ones(white):
        return (values >> (int(white).bit_length() - 8)).astype(np.uint8)  # the upper eight bits
    factor = 255 / (white - black or 1.0)
    pixels: Pixels = np.rint((values.astype(np.float32) - np.float32(black)) * np.float32(factor)).astype(np.uint8)
    return pixels


def _is_all_ones(white: float) -> bool:
    return white.is_integer() and int(white) & (int(white) + 1) == 0


def _finite(values: Values) -> Values:
    finite = np.isfinite(values)
    if finite.all():
        return values
    if not finite.any():
        raise ValueError("no pixel with a finite value")
    smallest, largest = values[finite].min(), values[finite].max()
    return np.nan_to_num(values, nan=min(smallest, 0), posinf=largest, neginf=smallest)


def _stated_white(image: Image.Image) -> float | None:
    if image.format in SCALED_BY_PILLOW:
        return USUAL_WHITES[-1] if image.mode.startswith("I") else None
    if image.format == "PNG":
        bits = _significant_bits(image)
        return None if bits is None else float(2**bits - 1)
    tags = getattr(image, "tag_v2", {})
    said = [white for tag in MAX_SAMPLE_VALUES if (white := _largest(tags.get(tag)))]
    if said:
        return said[0]
    bits = int(_largest(tags.get(BITS_PER_SAMPLE)) or 8)
    return float(2**bits - 1) if bits % 8 else None


def _largest(value: Any) -> float | None:
    """The largest number of a TIFF tag, which has one for each channel."""
    if value is None:
        return None
    return max(map(float, value)) if isinstance(value, tuple) else float(value)


def _significant_bits(image: Image.Image) -> int | None:
    """Bits of the colours by a PNG's chunk sBIT, which Pillow does not read; None without one."""
    if (file := getattr(image, "fp", None)) is None:
        return None
    position = file.tell()
    file.seek(8)
    try:
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"sBIT":
                bits = file.read(length)
                return max(bits[:3] if len(bits) > 2 else bits[:1], default=None)
            if kind == b"IDAT":
                return None
            file.seek(length + 4, io.SEEK_CUR)
        return None
    finally:
        file.seek(position)


def _raw_mode(tile: Any) -> str:
    """The form of the pixels in the file, which Pillow's decoder of a part of the image is given."""
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    return tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)


def _swapped(raw_mode: str) -> str:
    """The raw mode that reads the lower bytes where `raw_mode` reads the upper ones of 16 bits; "" for others."""
    if raw_mode == LA_16:
        return "RGBA"
    bands, _, order = raw_mode.partition(";16")
    if bands not in ("RGB", "RGBA", "RGBX") or order not in ("L", "B", "N"):
        return ""
    is_little = order == "L" or (order == "N" and sys.byteorder == "little")
    return f"{bands};16{'B' if is_little else 'L'}"


def _copy(image: Any) -> io.BytesIO:
    """The bytes of the file of an image."""
    position = image.fp.tell()
    image.fp.seek(0)
    copy = io.BytesIO(image.fp.read())
    image.fp.seek(position)
    return copy
