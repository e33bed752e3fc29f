"""Random mistakes in a folder of photographs."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.fuzz.mistakes import in_bytes

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
CLASSES = ("[red]", ":dog:", "a\nb", "é", " ", "-x", "x" * 200)


def in_folder(photo: Path, draw: random.Random) -> None:
    """Damages `photo`, or puts something odd beside it or among the classes."""
    draw.choice((_damage, _empty, _pointer, _remove, _folder, _link, _loop, _name, _class, _text))(photo, draw)


def _damage(photo: Path, draw: random.Random) -> None:
    if photo.is_file():
        photo.write_bytes(in_bytes(photo.read_bytes(), draw))


def _empty(photo: Path, draw: random.Random) -> None:
    photo.write_bytes(b"")


def _pointer(photo: Path, draw: random.Random) -> None:
    photo.write_text(POINTER)


def _remove(photo: Path, draw: random.Random) -> None:
    photo.unlink(missing_ok=True)


def _folder(photo: Path, draw: random.Random) -> None:
    (photo.parent / "deeper" / "er").mkdir(parents=True, exist_ok=True)


def _link(photo: Path, draw: random.Random) -> None:
    (photo.parent / f"link{draw.random()}.png").symlink_to(draw.choice(("/nowhere", "/dev/null", str(photo))))


def _loop(photo: Path, draw: random.Random) -> None:
    (photo.parent / f"loop{draw.random()}").symlink_to(photo.parents[2])


def _name(photo: Path, draw: random.Random) -> None:
    os.close(os.open(os.fsencode(photo.parent) + b"/\xff[bold]\n.png", os.O_CREAT | os.O_WRONLY))


def _class(photo: Path, draw: random.Random) -> None:
    (photo.parents[1] / draw.choice(CLASSES)).mkdir(exist_ok=True)


def _text(photo: Path, draw: random.Random) -> None:
    (photo.parent / "README.md").write_text("no image")
