from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainables import files
from trainables.files import atomic_file, write_whole


def test_what_a_full_disk_refuses_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_whole(tmp_path / "file", b"old")
    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new content is on the disk under another name before it takes the old one's place."""
    write_whole(tmp_path / "file", b"old")
    seen: list[bytes] = []
    sync = os.fsync

    def spy(descriptor: int) -> None:
        sync(descriptor)
        seen.append((tmp_path / "file").read_bytes())
        seen.append((tmp_path / "file.new").read_bytes())

    monkeypatch.setattr(files.os, "fsync", spy)
    write_whole(tmp_path / "file", b"new")
    assert seen == [b"old", b"new"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_block_that_raises_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "file", tmp_path / "unfinished") as file:
        file.write(b"new" * (1 // 0))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_permissions_are_those_asked_for(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "file", mode=0o600) as file:
        file.write(b"private")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
