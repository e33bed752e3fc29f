"""Images of more than eight bits, written by other means than Pillow's where it cannot write them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.data.bit_depth import scaled, white_of
from trainables.data.datasets.formats import open_image
from trainables.data.decoding import decode
from trainables.data.images import Pixels

from .conftest import photo

SIDE = 16
COLOURS = np.asarray(photo(0, SIDE, SIDE))
GREYS = np.asarray(photo(0, SIDE, SIDE).convert("L"))
ALPHA = np.full((SIDE, SIDE), 255, dtype=np.uint8)
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's colour type by the number of channels."""


def write_png(path: Path, values: np.ndarray[Any, Any], significant: int | None = None) -> Path:
    """Writes a PNG of 16 bits a channel (values H×W or H×W×C), with a chunk sBIT of `significant` bits if asked."""
    values = values[..., None] if values.ndim == 2 else values
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0))]
    chunks += [(b"sBIT", bytes([significant] * channels))] if significant else []
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


def write_tiff(
    path: Path,
    values: np.ndarray[Any, Any],
    tags: dict[int, tuple[int, Any]] | None = None,
    is_compressed: bool = False,
) -> Path:
    """Writes a little-endian TIFF of one strip; `tags` are (type, value) by number, of types 3, 4 and 11."""
    values = values[..., None] if values.ndim == 2 else values
    height, width, channels = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    data = zlib.compress(data) if is_compressed else data
    bits = struct.pack("<" + "H" * channels, *[8 * values.itemsize] * channels)
    fields: dict[int, tuple[int, int, bytes]] = {
        256: (4, 1, struct.pack("<I", width)),
        257: (4, 1, struct.pack("<I", height)),
        258: (3, channels, bits),
        259: (3, 1, struct.pack("<H", 8 if is_compressed else 1)),
        262: (3, 1, struct.pack("<H", 1 if channels == 1 else 2)),
        273: (4, 1, struct.pack("<I", 8)),
        277: (3, 1, struct.pack("<H", channels)),
        278: (4, 1, struct.pack("<I", height)),
        279: (4, 1, struct.pack("<I", len(data))),
        339: (3, channels, struct.pack("<" + "H" * channels, *[kind] * channels)),
    }
    for tag, (type_, value) in (tags or {}).items():
        fields[tag] = (type_, 1, struct.pack({3: "<H", 4: "<I", 11: "<f"}[type_], value))
    start = 8 + len(data)
    entries, more, place = b"", b"", start + 2 + 12 * len(fields) + 4
    for tag, (type_, count, content) in sorted(fields.items()):
        if len(content) <= 4:
            inline = content.ljust(4, b"\0")
        else:
            inline = struct.pack("<I", place + len(more))
            more += content
        entries += struct.pack("<HHI", tag, type_, count) + inline
    header = b"II*\0" + struct.pack("<I", start)
    path.write_bytes(header + data + struct.pack("<H", len(fields)) + entries + b"\0" * 4 + more)
    return path


def decoded(path: Path) -> Pixels:
    return decode(open_image(path), SIDE, "squash")


def as_rgb(greys: np.ndarray[Any, Any]) -> Pixels:
    return np.repeat(greys[..., None], 3, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", ["grey", "grey with alpha", "rgb", "rgb with alpha"])
def test_fewer_bits_in_a_png_of_sixteen(tmp_path: Path, bits: int, channels: str) -> None:
    eight = {
        "grey": GREYS,
        "grey with alpha": np.dstack([GREYS, ALPHA]),
        "rgb": COLOURS,
        "rgb with alpha": np.dstack([COLOURS, ALPHA]),
    }[channels]
    path = write_png(tmp_path / "a.png", np.rint(eight * ((2**bits - 1) / 255)).astype(np.uint16))
    np.testing.assert_array_equal(decoded(path), as_rgb(GREYS) if "grey" in channels else COLOURS)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_fewer_bits_in_a_tiff_of_sixteen(tmp_path: Path, bits: int, channels: int, is_compressed: bool) -> None:
    eight = {1: GREYS, 3: COLOURS, 4: np.dstack([COLOURS, ALPHA])}[channels]
    values = (eight.astype(np.uint16) << (bits - 8)) | 1
    path = write_tiff(tmp_path / "a.tif", values, is_compressed=is_compressed)
    np.testing.assert_array_equal(decoded(path), as_rgb(GREYS) if channels == 1 else COLOURS)


def test_a_dark_image_of_the_bits_that_the_file_states(tmp_path: Path) -> None:
    values = GREYS.astype(np.uint16) * 4  # 10 bits of 12
    np.testing.assert_array_equal(decoded(write_png(tmp_path / "a.png", values, significant=12)), as_rgb(GREYS // 4))
    np.testing.assert_array_equal(decoded(write_png(tmp_path / "b.png", values)), as_rgb(GREYS))
    path = write_tiff(tmp_path / "a.tif", values, {281: (3, 4095)})
    np.testing.assert_array_equal(decoded(path), as_rgb(GREYS // 4))


def test_colours_of_the_bits_that_the_file_states(tmp_path: Path) -> None:
    values = COLOURS.astype(np.uint16) * 4
    np.testing.assert_array_equal(decoded(write_png(tmp_path / "a.png", values, significant=12)), COLOURS // 4)


def test_a_statement_that_the_values_exceed_does_not_count(tmp_path: Path) -> None:
    """By the standard, values of fewer significant bits are scaled up to 16."""
    values = GREYS.astype(np.uint16) << 8
    np.testing.assert_array_equal(decoded(write_png(tmp_path / "a.png", values, significant=12)), as_rgb(GREYS))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (GREYS / 255, GREYS),  # floats from 0 to 1
        (GREYS / 255 * 0.5, np.rint(GREYS / 255 * 127.5)),  # darker ones
        (GREYS.astype(float), GREYS),
        (GREYS.astype(float) * 16, np.rint(GREYS * (16 * 255 / 4095))),
        (GREYS / 255 * 1.5, np.rint(GREYS / GREYS.max() * 255)),  # beyond white
        (GREYS / 255 * 2 - 1, np.rint((GREYS - GREYS.min()) / np.ptp(GREYS) * 255)),
    ],
)
def test_floats(tmp_path: Path, values: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    path = write_tiff(tmp_path / "a.tif", values.astype(np.float32))
    np.testing.assert_allclose(decoded(path).astype(int), as_rgb(expected).astype(int), atol=1)


def test_floats_of_a_stated_range(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", (GREYS / 255 * 1000).astype(np.float32), {341: (11, 2000.0)})
    np.testing.assert_allclose(decoded(path).astype(int), as_rgb(np.rint(GREYS / 2)).astype(int), atol=1)


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    values = (GREYS / 255).astype(np.float32)
    values[1, :3] = (np.nan, np.inf, -np.inf)
    pixels = decoded(write_tiff(tmp_path / "a.tif", values))
    np.testing.assert_allclose(pixels[2:].astype(int), as_rgb(GREYS)[2:].astype(int), atol=1)
    assert pixels[1, 0, 0] == 0
    assert pixels[1, 1, 0] == GREYS.max()
    values[:] = np.nan
    with pytest.raises(ValueError, match="no pixel with a finite value"):
        decoded(write_tiff(tmp_path / "b.tif", values))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int16])
def test_integers_of_other_ranges(tmp_path: Path, dtype: type[Any]) -> None:
    largest = min(np.iinfo(dtype).max, 10**9)
    values = (GREYS / GREYS.max() * largest).astype(dtype)
    expected = np.rint(GREYS / GREYS.max() * 255) if largest > 65535 else GREYS / GREYS.max() * largest / 256
    pixels = decoded(write_tiff(tmp_path / "a.tif", values)).astype(int)
    np.testing.assert_allclose(pixels, as_rgb(expected).astype(int), atol=1)


def test_negative_integers(tmp_path: Path) -> None:
    values = GREYS.astype(np.int16) * 10 - 1000  # as of a CT scan
    expected = np.rint((GREYS - float(GREYS.min())) / np.ptp(GREYS) * 255)
    np.testing.assert_allclose(
        decoded(write_tiff(tmp_path / "a.tif", values)).astype(int), as_rgb(expected).astype(int), atol=1
    )


def test_a_mask_and_a_map_of_labels_are_visible() -> None:
    assert scaled(np.array([0, 1], dtype=np.uint16)).tolist() == [0, 255]
    assert scaled(np.array([0, 5, 10], dtype=np.uint16)).tolist() == [0, 128, 255]
    assert scaled(np.zeros(3, dtype=np.uint16)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("largest", "white"),
    [
        (0, 1),
        (0.2, 1),
        (1, 1),
        (200, 255),
        (256, 1023),
        (4095, 4095),
        (4096, 16383),
        (60000, 65535),
        (10**6, 10**6),
        (9, 9),
    ],
)
def test_white_is_the_smallest_usual_one(largest: float, white: float) -> None:
    assert white_of(largest) == white


def test_pgm_says_its_white_itself(tmp_path: Path) -> None:
    values = (GREYS.astype(np.uint16) * 4).astype(">u2")  # 10 bits of 12
    (tmp_path / "a.pgm").write_bytes(b"P5 %d %d 4095\n" % (SIDE, SIDE) + values.tobytes())
    np.testing.assert_allclose(decoded(tmp_path / "a.pgm").astype(int), as_rgb(GREYS // 4).astype(int), atol=1)


def test_orientation_is_applied_to_all_bytes(tmp_path: Path) -> None:
    values = COLOURS.astype(np.uint16) << 4 | 7
    path = write_tiff(tmp_path / "a.tif", values, {274: (3, 6)})
    np.testing.assert_array_equal(decoded(path), np.rot90(COLOURS, -1))


@pytest.mark.parametrize("values", [GREYS.astype(np.uint16) << 4 | 15, (GREYS / 255).astype(np.float32)])
def test_white_may_be_zero(tmp_path: Path, values: np.ndarray[Any, Any]) -> None:
    path = write_tiff(tmp_path / "a.tif", values, {262: (3, 0)})
    np.testing.assert_allclose(decoded(path).astype(int), as_rgb(255 - GREYS).astype(int), atol=1)


def test_transparency_of_twelve_bits(tmp_path: Path) -> None:
    alpha = np.where(np.arange(SIDE) < 8, 0, 4095).astype(np.uint16) * np.ones((SIDE, 1), dtype=np.uint16)
    pixels = decoded(write_png(tmp_path / "a.png", np.dstack([COLOURS.astype(np.uint16) << 4, alpha])))
    assert (pixels[:, :8] == 255).all()
    np.testing.assert_array_equal(pixels[:, 8:], COLOURS[:, 8:])
