"""Atomic writing of files: after a crash a file has its old content or its new content, never a part."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path, unfinished: Path | None = None, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Opens a new binary file, and puts it in the place of `path` at the end of the block, once it is on the disk.

    Until then it is at `unfinished` (default: `path` with `.new` appended), which has to be in the same file system.
    `mode` are its permissions before the umask. If the block or the disk raises, `path` stays as it was and
    `unfinished` is removed.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "scores.txt")
    >>> with atomic_file(path) as file:
    ...     print(file.write(b"0.93"), path.exists())
    4 False
    >>> path.read_text()
    '0.93'
    """
    unfinished = unfinished or path.with_name(path.name + ".new")
    try:
        with open(unfinished, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)  # half a file would only keep a full disk full
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically, and makes its folder. Raises OSError, leaving the old content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(content)
