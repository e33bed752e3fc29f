from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainables import files
from trainables.files import atomic_file, placeholder, write_whole


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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
        (b"/annex/objects/SHA256E-s1--0.pt\n", "a pointer of git-annex"),
        (b"\n<!doctype HTML><title>Sign in</title>", "a web page"),
        (b"", "an empty file"),
    ],
)
def test_what_stands_in_the_place_of_a_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    assert placeholder(file).startswith(said)


def test_a_file_itself_is_no_placeholder(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"PK\3\4")
    assert placeholder(tmp_path / "weights.pt") == placeholder(tmp_path) == placeholder(tmp_path / "gone") == ""
