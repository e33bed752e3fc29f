"""Decoded images on disk, so that the next search of the same photographs begins without decoding.

An entry is the images of one sampled split, at one size. Its key is made of the files' *contents*, in their order, of
what decoding does with them and of Pillow's version: a photograph that changes makes another entry, and a dataset that
moves does not. Reading every file for that costs a few hundredths of decoding it (docs/decisions/0021), and unlike
path, size and time of change it cannot be fooled. The least recently used entries make room for new ones.
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
from trainables.data.decoding import Resize, decode_all
from trainables.data.images import Pixels
from trainables.data.mapped_pixels import FORMAT, SUFFIX, UNFINISHED, NotThisFile, PixelFile, in_use
from trainables.errors import BadInput, Problem

logger = logging.getLogger(__name__)

DEFAULT_GB = 20.0
PART_BYTES = 64 << 20
"""So much is decoded before it is written, and no more is in memory."""
ABANDONED_S = 3600.0
"""A file that nothing was added to for so long belongs to a process that was killed."""


def cached(listing: Listing, side: int, resize: Resize) -> tuple[PixelFile, Pixels] | None:
    """The images of `listing` as uint8 N×side×side×3, decoded now or before, in a file of the cache.

    None where they are in no files, or where there is no cache or no room in it, which is said in the log.
    Raises BadInput that names every file that does not decode.
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
    """Decoded images in `folder`, `limit_bytes` at most."""

    folder: Path
    limit_bytes: int

    @classmethod
    def from_environment(cls) -> Self | None:
        """As TUNER_CACHE (a folder; else `tuner` below XDG_CACHE_HOME or ~/.cache) and TUNER_CACHE_GB say; None: none.

        Both are of a machine, not of an experiment, and so no part of its settings. Raises BadInput.
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
        """See `cached`. Raises OSError where the folder or its disk does not take the entry."""
        key = content_key(listing, side, resize)
        if key is None:
            return None  # decoding names what cannot be read
        file = PixelFile(self.folder / (key + SUFFIX), key, (len(listing), side, side, 3))
        try:
            return file, file.open()
        except FileNotFoundError:
            pass
        except NotThisFile as error:
            logger.warning("decoded images are made anew: %s", error)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._make_room(file):
            return None
        started = time.monotonic()
        file.write(self._unchanged(key, listing, side, resize))
        logger.info("decoded %d images in %.1f s, to '%s'", len(listing), time.monotonic() - started, file.path)
        return file, file.open()

    def _unchanged(self, key: str, listing: Listing, side: int, resize: Resize) -> Iterator[Pixels]:
        """As `in_parts`. Raises OSError where it is no longer certain that `key` is of what was decoded."""
        yield from in_parts(listing, side, resize)
        if content_key(listing, side, resize) != key:
            raise OSError("an image has changed while the images were decoded")

    def _make_room(self, fresh: PixelFile) -> bool:
        """Whether there is room for it, once what was used least recently has gone. What is in use stays."""
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
                "decoded images are not kept on disk: %.2f GB of them must fit into '%s' beside what is in use there, "
                "within TUNER_CACHE_GB=%g",
                *(fresh.num_bytes / 1e9, self.folder, self.limit_bytes / 1e9),
            )
        return excess <= 0


def content_key(listing: Listing, side: int, resize: Resize) -> str | None:
    """A name for the decoded images: equal for equal files in the same order, wherever they lie. None: one is not
    readable."""
    said = hashlib.blake2b(repr((FORMAT, PIL.__version__, side, resize)).encode(), digest_size=16)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for digest in pool.map(_digest, listing.names):
                said.update(digest)
    except OSError:
        return None
    return said.hexdigest()


def in_parts(listing: Listing, side: int, resize: Resize) -> Iterator[Pixels]:
    """As `decode_all`, a part after the other. Raises BadInput at the end, of all parts."""
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


def _limit_bytes(said: str) -> int:
    try:
        limit_bytes = int(float(said) * 1e9)
    except (ValueError, OverflowError):
        limit_bytes = -1
    if limit_bytes < 0:
        expected = "a number of gigabytes (10⁹ bytes) in the environment's TUNER_CACHE_GB, 0 for no cache"
        raise BadInput(Problem("", expected, repr(said)))
    return limit_bytes


def _digest(name: str) -> bytes:
    with open(name, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
