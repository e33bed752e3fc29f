"""Endings of the image files that Pillow decodes, with pillow-heif as an extra."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from trainables.files import placeholder

NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow identifies but does not decode, or only with another program on some systems."""
HEIF_ENDINGS = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
READS_HEIF = "the extra heic reads them: pip install -e '.[heic]' in the project"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Bytes 8 to 11 of HEIF files, after `ftyp`."""


@lru_cache(maxsize=1)
def readable_endings() -> frozenset[str]:
    """The endings (`.jpg`, in lower case) of the image files that can be decoded here."""
    register_readers()
    formats = Image.registered_extensions()
    return frozenset(ending for ending, name in formats.items() if name in Image.OPEN and name not in NOT_DECODED)


@lru_cache(maxsize=1)
def register_readers() -> None:
    """Makes Pillow open HEIF files in this process, if pillow-heif is installed."""
    if find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener

        register_heif_opener()


def open_image(path: Path | str) -> Image.Image:
    """Opens an image file of any of the formats, without decoding it."""
    register_readers()
    return Image.open(path)


def unread_content(path: Path | str) -> str:
    """Says what is in a file that cannot be read: what `placeholder` finds, or HEIF without its reader, which phones
    write under the ending .jpg, too; "" if it may be an image."""
    if said := placeholder(path):
        return said
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError:
        return ""
    is_heif = start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS
    return f"a HEIF image ({READS_HEIF})" if is_heif and ".heic" not in readable_endings() else ""


def ending_of(name: str) -> str:
    """The ending of a file's name in lower case, with its dot; "" if it has none.

    >>> ending_of("IMG_1.JFIF"), ending_of("README")
    ('.jfif', '')
    """
    return Path(name).suffix.lower()


def is_image(name: str) -> bool:
    """Whether a file with this name can be decoded, by its ending."""
    return ending_of(name) in readable_endings()


def left_out_in_words(counts: Mapping[str, int]) -> str:
    """The numbers of files by ending, the most frequent first; of HEIF files with the extra that reads them.

    >>> left_out_in_words({".txt": 1, "": 2})
    '2 without an ending, 1 .txt'
    """
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in by_count)
    return f"{words} ({READS_HEIF})" if HEIF_ENDINGS & counts.keys() else words
