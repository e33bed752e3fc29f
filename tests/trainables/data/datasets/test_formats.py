from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from trainables.data.datasets import formats
from trainables.data.datasets.formats import (
    is_image,
    left_out_in_words,
    open_image,
    readable_endings,
    unread_content,
)
from trainables.data.decoding import decode

from ..conftest import photo


@pytest.fixture
def read_anew() -> Iterator[None]:
    """Looks for readers anew, for this test alone."""
    for cached in (formats.readable_endings, formats.register_readers):
        cached.cache_clear()
    yield
    for cached in (formats.readable_endings, formats.register_readers):
        cached.cache_clear()


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "a.jfif", "a.jpe", "a.png", "a.webp", "a.tif", "a.avif", "a.jp2", "a.ppm"]
)
def test_what_pillow_decodes_is_an_image(name: str, tmp_path: Path) -> None:
    assert is_image(name)
    photo(0).save(tmp_path / name)
    assert decode(open_image(tmp_path / name), 8, "squash").shape == (8, 8, 3)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.pdf", "a.mpg", "a.eps", "a.h5", "a.wmf", "a.jpg.part"])
def test_what_it_cannot_decode_is_none(name: str) -> None:
    assert not is_image(name)


def test_heic_is_no_image_without_its_package(read_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    for ending in formats.HEIF_ENDINGS:  # another test may have registered the package
        monkeypatch.delitem(Image.EXTENSION, ending, raising=False)
    assert not is_image("a.heic")
    assert left_out_in_words({".heic": 1}).endswith(
        "(the extra heic reads them: pip install -e '.[heic]' in the project)"
    )


def test_a_phones_photo_under_the_ending_of_another_format(
    read_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    for ending in formats.HEIF_ENDINGS:
        monkeypatch.delitem(Image.EXTENSION, ending, raising=False)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert unread_content(tmp_path / "a.jpg").startswith("a HEIF image (the extra heic reads them: pip install")
    (tmp_path / "b.jpg").write_bytes(b"")
    assert unread_content(tmp_path / "b.jpg") == "an empty file"
    photo(0).save(tmp_path / "c.jpg")
    assert unread_content(tmp_path / "c.jpg") == unread_content(tmp_path / "nowhere.jpg") == ""


def test_the_reader_of_heic_is_registered_once(
    read_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a stand-in for the package, which reads PNG under this name."""
    package, calls = ModuleType("pillow_heif"), []

    def register_heif_opener() -> None:
        calls.append(1)
        monkeypatch.setitem(Image.EXTENSION, ".heic", "PNG")

    package.register_heif_opener = register_heif_opener  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", package)
    monkeypatch.setattr(formats, "find_spec", lambda name: object())
    assert is_image("a.HEIC")
    photo(0).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.heic")
    with open_image(tmp_path / "a.heic") as image:
        assert image.size == (24, 20)
    assert calls == [1]


def test_heic_is_read_like_any_other(tmp_path: Path) -> None:
    """With the package itself."""
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    photo(0, 64, 64).save(tmp_path / "a.heic", quality=95)
    assert ".heic" in readable_endings()
    difference = decode(open_image(tmp_path / "a.heic"), 16, "squash").astype(int) - decode(
        photo(0, 64, 64), 16, "squash"
    )
    assert abs(difference).mean() < 4
