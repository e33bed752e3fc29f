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


PLACEHOLDERS = {
    b"version https://git-lfs.github.com/spec/": "a pointer of Git LFS in place of the file: `git lfs pull` fetches it",
    b"/annex/objects/": "a pointer of git-annex in place of the file: `git annex get` fetches it",
    b"<!DOCTYPE html": "a web page in place of the file: the download needs another address, or a login",
    b"<html": "a web page in place of the file: the download needs another address, or a login",
}
"""First bytes of what is often found where a file should be, with what it is and what to do."""


def placeholder(path: Path | str) -> str:
    """Says what is in the place of a file that cannot be read: a pointer, a web page, nothing at all; "" where it may
    be the file itself.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "weights.pt")
    >>> path.write_text("version https://git-lfs.github.com/spec/v1")
    42
    >>> placeholder(path)
    'a pointer of Git LFS in place of the file: `git lfs pull` fetches it'
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
    except OSError:
        return ""
    if not start:
        return "an empty file"
    return next((said for first, said in PLACEHOLDERS.items() if start.lower().startswith(first.lower())), "")
