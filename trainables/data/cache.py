"""Cache of decoded images on disk, so that the next search of the same images starts without decoding.

An entry holds the images of one sampled split, at one size. Its key is a hash of the files' *contents*, in their order,
of the decoding settings and of Pillow's version: a changed image gives another entry, a moved dataset does not. Hashing
costs a few hundredths of the time of decoding (docs/decisions/0021), and unlike path, size and time of change it
cannot miss a change. The least recently used entries are removed to make room for new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import PIL

from trainables.data.datasets.listing import Listing
from trainables.data.decoding import VERSION, Resize, decode_all
from trainables.data.images import Pixels
from trainables.data.mapped_pixels import FORMAT, SUFFIX, UNFINISHED, PixelFile, WrongPixelFile, in_use
from trainables.errors import BadInput, Problem

logger = logging.getLogger(__name__)

DEFAULT_GB = 20.0
PART_BYTES = 64 << 20
"""Size of the parts in which images are decoded and written, which bounds the memory needed."""
ABANDONED_S = 3600.0
"""Age since its last change after which an unfinished file is taken for that of a killed process."""


def cached(listing: Listing, side: int, resize: Resize) -> tuple[PixelFile, Pixels] | None:
    """The images of `listing` as uint8 N×side×side×3 in a file of the cache, decoded if they are not there yet.

    Returns None if the images are not files, if there is no cache, or if it has no room, which is logged.
    Raises BadInput with every file that does not decode.
    """
    if not listing.in_files or not len(listing) or (cache := Cache.from_environment()) is None:
        return None
    try:
        return cache.get(listing, side, resize)
    except OSError as error:
        logger.warning("decoded images are not kept on disk: %s", error)
        return None


@dataclass(frozen=True)
class Cache:
    """Cache of decoded images in `folder`, of at most `limit_bytes`."""

    folder: Path
    limit_bytes: int

    @classmethod
    def from_environment(cls) -> Self | None:
        """The cache of this machine: in TUNER_CACHE (by default `tuner` below XDG_CACHE_HOME or ~/.cache), of
        TUNER_CACHE_GB (10⁹ bytes). None if that is 0. Raises BadInput if it is no number.

        They are environment variables because they belong to a machine, not to an experiment.
        """
        limit_bytes = _limit_bytes(os.environ.get("TUNER_CACHE_GB") or str(DEFAULT_GB))
        if not limit_bytes:
            return None
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tuner")
        try:
            folder = Path(os.environ.get("TUNER_CACHE") or base).expanduser()
        except RuntimeError as error:  # a user without a home
            logger.warning("decoded images are not kept on disk, TUNER_CACHE names no folder: %s", error)
            return None
        return cls(folder.absolute() / "images", limit_bytes)

    def get(self, listing: Listing, side: int, resize: Resize) -> tuple[PixelFile, Pixels] | None:
        """Opens or makes the entry of `listing`; see `cached`. Raises OSError if it cannot be written."""
        key = content_key(listing, side, resize)
        if key is None:
            return None  # decoding reports the unreadable files
        file = PixelFile(self.folder / (key + SUFFIX), key, (len(listing), side, side, 3))
        try:
            return file, file.open()
        except FileNotFoundError:
            pass
        except WrongPixelFile as error:
            logger.warning("decoded images are made anew: %s", error)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._make_room(file):
            return None
        started = time.monotonic()
        file.write(self._unchanged(key, listing, side, resize))
        logger.info("decoded %d images in %.1f s, to '%s'", len(listing), time.monotonic() - started, file.path)
        return file, file.open()

    def _unchanged(self, key: str, listing: Listing, side: int, resize: Resize) -> Iterator[Pixels]:
        """Decodes in parts. Raises OSError at the end if the files no longer have `key`."""
        yield from in_parts(listing, side, resize)
        if content_key(listing, side, resize) != key:
            raise OSError("an image has changed while the images were decoded")

    def _make_room(self, fresh: PixelFile) -> bool:
        """Removes the least recently used entries that are not in use; returns whether `fresh` then fits."""
        excess = fresh.num_bytes - self.limit_bytes
        old: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process makes room as well
                stat = path.stat()
                if path.suffix == UNFINISHED and time.time() - stat.st_mtime > ABANDONED_S:
                    path.unlink()
                elif path.suffix in (SUFFIX, UNFINISHED) and path != fresh.path:
                    excess += stat.st_size
                    old += [(stat.st_mtime, stat.st_size, path)] if path.suffix == SUFFIX else []
        for _, num_bytes, path in sorted(old) if fresh.num_bytes <= self.limit_bytes else ():
            if excess <= 0:
                break
            with contextlib.suppress(FileNotFoundError):
                if not in_use(path):
                    path.unlink()
                    excess -= num_bytes
        if excess > 0:
            logger.warning(
                "decoded images are not kept on disk: %.2f GB do not fit into '%s' beside the entries in use, "
                "within TUNER_CACHE_GB=%g",
                *(fresh.num_bytes / 1e9, self.folder, self.limit_bytes / 1e9),
            )
        return excess <= 0


def content_key(listing: Listing, side: int, resize: Resize) -> str | None:
    """Hash of the decoded images: equal for equal files in the same order in any folder. None if one is unreadable."""
    digest = hashlib.blake2b(repr((FORMAT, VERSION, PIL.__version__, side, resize)).encode(), digest_size=16)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for of_file in pool.map(file_digest, listing.names):
                digest.update(of_file)
    except OSError:
        return None
    return digest.hexdigest()


def in_parts(listing: Listing, side: int, resize: Resize) -> Iterator[Pixels]:
    """Decodes as `decode_all`, in parts n×side×side×3. Raises BadInput at the end, with the problems of all parts."""
    size = max(1, PART_BYTES // (side * side * 3))
    problems: list[Problem] = []
    for start in range(0, len(listing), size):
        part = listing.take(np.arange(start, min(start + size, len(listing))))
        try:
            pixels = decode_all(part, side, resize)
        except BadInput as bad:
            problems += bad.problems
        else:
            yield pixels
    if problems:
        raise BadInput(problems)


def _limit_bytes(gigabytes: str) -> int:
    try:
        limit_bytes = int(float(gigabytes) * 1e9)
    except (ValueError, OverflowError):
        limit_bytes = -1
    if limit_bytes < 0:
        expected = "a number of gigabytes (10⁹ bytes) in the environment's TUNER_CACHE_GB, 0 for no cache"
        raise BadInput(Problem("", expected, repr(gigabytes)))
    return limit_bytes


def file_digest(name: str) -> bytes:
    """Hash of a file's contents. Raises OSError."""
    with open(name, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
