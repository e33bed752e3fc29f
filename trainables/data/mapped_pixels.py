"""Files of decoded images that processes map into memory: pages that several of them read are in memory once.

A file is a header of one page with format, key and shape, and the pixels in the order of the array. It is written
atomically, and locked while it is mapped, so that the cache does not remove it.
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
"""Version of the file format and of the decoding; increased when either changes."""
HEADER_BYTES = 4096
SUFFIX, UNFINISHED = ".pixels", ".unfinished"
SHARE_OF_MEMORY = 0.25
"""Share of this machine's memory above which pixels are too large to send: Ray uses 0.3 of it for all objects."""


class WrongPixelFile(Exception):
    """Error for a file that is torn, has another format, or holds other images."""


@dataclass(frozen=True)
class PixelFile:
    """Decoded images uint8 N×H×W×3 (`shape`) with `key` in the file `path`; pickles hold these three alone."""

    path: Path
    key: str
    shape: tuple[int, int, int, int]

    @property
    def num_bytes(self) -> int:
        """Size of the whole file."""
        return HEADER_BYTES + int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_too_large_to_send(self) -> bool:
        """Whether other processes get the path instead of the pixels."""
        return is_too_large_to_send(self.num_bytes)

    @property
    def header(self) -> bytes:
        """The first page of the file."""
        fields = {"format": FORMAT, "key": self.key, "dtype": "uint8", "shape": self.shape}
        return json.dumps(fields).encode().ljust(HEADER_BYTES - 1) + b"\n"

    def open(self) -> NDArray[np.uint8]:
        """Maps the pixels, read-only. While the array exists, the file is `in_use`.

        Raises:
            FileNotFoundError: if there is no file.
            WrongPixelFile: if it is torn, has another format, or holds other images.
            OSError: if it cannot be read.
        """
        with self.path.open("rb") as file:
            _lock(file.fileno(), fcntl.LOCK_SH)
            got = os.fstat(file.fileno()).st_size
            if got != self.num_bytes:
                raise WrongPixelFile(f"expected {self.num_bytes} bytes in '{self.path}', got {got}")
            if (header := file.read(HEADER_BYTES)) != self.header:
                raise WrongPixelFile(f"expected the header {_text(self.header)} in '{self.path}', got {_text(header)}")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # keeps a descriptor, and so the lock
        with contextlib.suppress(OSError):  # if the folder is read-only
            os.utime(self.path)  # the time of the last use, for the cache
        return np.ndarray(self.shape, np.uint8, mapped, offset=HEADER_BYTES)

    def open_as_sent(self) -> NDArray[np.uint8]:
        """Opens the file in a process that received it instead of the pixels; its OSError gives the remedy."""
        try:
            return self.open()
        except (OSError, WrongPixelFile) as error:
            raise OSError(
                f"expected the decoded images {self.key} of shape {self.shape} in '{self.path}' on "
                f"{socket.gethostname()} (they are too large to be sent: on a cluster, TUNER_CACHE has to be a folder "
                f"that all nodes share), got {type(error).__name__}: {error}"
            ) from error

    def write(self, parts: Iterable[NDArray[np.uint8]]) -> None:
        """Writes the N images in `parts` n×H×W×3, with one part in memory at a time.

        It does not write to mapped pages, as that kills the process if the disk is full. If `parts` raises, or the disk
        is full or read-only (OSError), no file is left behind.
        """
        unfinished = self.path.with_name(f"{self.path.stem}-{uuid.uuid4().hex}{UNFINISHED}")
        with atomic_file(self.path, unfinished, mode=0o600) as file:
            if hasattr(os, "posix_fallocate"):  # fails before anything is decoded for a full disk; not on macOS
                os.posix_fallocate(file.fileno(), 0, self.num_bytes)
            file.seek(HEADER_BYTES)
            for part in parts:
                file.write(np.ascontiguousarray(part).data)
                file.flush()
            assert file.tell() == self.num_bytes, f"{file.tell()} bytes written of {self.num_bytes}"
            file.seek(0)
            file.write(self.header)


def in_use(path: Path) -> bool:
    """Whether a process has mapped the file at `path`. Raises OSError if it does not exist."""
    with path.open("rb") as file:
        return not _lock(file.fileno(), fcntl.LOCK_EX)


def is_too_large_to_send(num_bytes: int) -> bool:
    """Whether so many bytes of pixels are too large a share of this machine's memory."""
    return num_bytes > SHARE_OF_MEMORY * memory_bytes()


def memory_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory of this machine, or the limit of its container, in bytes."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or no limit ("max")
        limit = min(limit, int((cgroup / "memory.max").read_text()))
    return limit


def _lock(descriptor: int, kind: int) -> bool:
    """Tries to lock, and returns whether it succeeded; on a file system without locks it always does."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _text(header: bytes) -> str:
    return repr(header.rstrip()[:200].decode(errors="replace"))
