"""A file of decoded images that processes map into memory: what several of them read is in memory once.

It is a header of a page, which says what the pixels are, and the pixels as they lie in an array. It is whole or not
there: it is written under another name, and takes its own when its last byte is on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.files import atomic_file

FORMAT = 1
"""Counts up when the file takes another form, or when decoding gives other pixels."""
HEADER_BYTES = 4096
SUFFIX, UNFINISHED = ".pixels", ".unfinished"
SHARE_OF_MEMORY = 0.25
"""Pixels that would take more of this machine's memory are too large to send: Ray keeps 0.3 of it for all objects."""


class NotThisFile(Exception):
    """What is there is not the file that was asked for: torn, of another format, or of other images."""


@dataclass(frozen=True)
class PixelFile:
    """Decoded images N×H×W×3 (`shape`) at `path`, by their `key`. Small, and good for whoever sees that path."""

    path: Path
    key: str
    shape: tuple[int, int, int, int]

    @property
    def num_bytes(self) -> int:
        """Of the whole file."""
        return HEADER_BYTES + int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_too_large_to_send(self) -> bool:
        """Whether other processes are to be told of the file, rather than given its pixels."""
        return self.num_bytes > SHARE_OF_MEMORY * memory_bytes()

    @property
    def header(self) -> bytes:
        """The file's first page."""
        said = {"format": FORMAT, "key": self.key, "dtype": "uint8", "shape": self.shape}
        return json.dumps(said).encode().ljust(HEADER_BYTES - 1) + b"\n"

    def open(self) -> NDArray[np.uint8]:
        """The pixels, read-only and in no memory of this process's own. While the array lives, the file is `in_use`.

        Raises:
            FileNotFoundError: where there is none.
            NotThisFile: where it is torn, of another format, or of other images.
            OSError: where it cannot be read.
        """
        with self.path.open("rb") as file:
            _lock(file.fileno(), fcntl.LOCK_SH)
            got = os.fstat(file.fileno()).st_size
            if got != self.num_bytes:
                raise NotThisFile(f"expected {self.num_bytes} bytes in '{self.path}', got {got}")
            if (header := file.read(HEADER_BYTES)) != self.header:
                raise NotThisFile(f"expected the header {_text(self.header)} in '{self.path}', got {_text(header)}")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # keeps a descriptor, and so the lock
        with contextlib.suppress(OSError):  # of a folder that is only to be read
            os.utime(self.path)  # by which the cache knows what was used last
        return np.ndarray(self.shape, np.uint8, mapped, offset=HEADER_BYTES)

    def open_as_sent(self) -> NDArray[np.uint8]:
        """As `open`, for a process that was sent the file in place of the pixels; its OSError says what to do."""
        try:
            return self.open()
        except (OSError, NotThisFile) as error:
            raise OSError(
                f"expected the decoded images {self.key} of shape {self.shape} in '{self.path}' on "
                f"{socket.gethostname()} (they are too large to be sent: on a cluster, TUNER_CACHE has to be a folder "
                f"that all nodes share), got {type(error).__name__}: {error}"
            ) from error

    def write(self, parts: Iterable[NDArray[np.uint8]]) -> None:
        """Writes `parts` n×H×W×3, one after the other, which are N images together, and holds no more than one of them.

        Mapped pages would need no copy, but a full disk kills a process that writes to them. Whatever `parts` raises
        leaves no file behind, and neither does the OSError of a disk that is full or read-only.
        """
        unfinished = self.path.with_name(f"{self.path.stem}-{uuid.uuid4().hex}{UNFINISHED}")
        with atomic_file(self.path, unfinished) as file:
            os.posix_fallocate(file.fileno(), 0, self.num_bytes)  # fails before anything is decoded for a full disk
            file.seek(HEADER_BYTES)
            for part in parts:
                file.write(np.ascontiguousarray(part).data)
                file.flush()
            assert file.tell() == self.num_bytes, f"{file.tell()} bytes written of {self.num_bytes}"
            file.seek(0)
            file.write(self.header)


def in_use(path: Path) -> bool:
    """Whether a process has the file at `path` open as a PixelFile. Raises OSError where it is gone."""
    with path.open("rb") as file:
        return not _lock(file.fileno(), fcntl.LOCK_EX)


def memory_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """This machine's memory, or what its container may take of it."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or no limit ("max")
        limit = min(limit, int((cgroup / "memory.max").read_text()))
    return limit


def _lock(descriptor: int, kind: int) -> bool:
    """Whether it was given. On a file system that knows no locks it always is: then no file is in use."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _text(header: bytes) -> str:
    return repr(header.rstrip()[:200].decode(errors="replace"))
