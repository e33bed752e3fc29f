from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.datasets.listing import Listing
from trainables.data.decoding import decode, decode_all, try_decoding
from trainables.data.images import Pixels
from trainables.errors import BadInput, Problem

from .conftest import photo

SIDE = 16
BICUBIC = Image.Resampling.BICUBIC


def listing(paths: list[Path]) -> Listing:
    return Listing(np.zeros(len(paths), dtype=np.int64), [str(p) for p in paths], lambda i: Image.open(paths[i]))


def decoded(path: Path) -> Pixels:
    return decode_all(listing([path]), SIDE, "squash")[0]


def squashed(image: Image.Image) -> Pixels:
    return np.asarray(image.resize((SIDE, SIDE), BICUBIC))


def test_squash_is_pillows_bicubic(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(decoded(tmp_path / "a.jpg"), squashed(Image.open(tmp_path / "a.jpg")))


@pytest.mark.parametrize(("width", "height"), [(60, 30), (30, 60)])
def test_short_side_keeps_the_centre(width: int, height: int) -> None:
    image = photo(0, width, height)
    scaled = image.resize((width * SIDE // 30, height * SIDE // 30), BICUBIC)
    left, top = (scaled.width - SIDE) // 2, (scaled.height - SIDE) // 2
    reference = np.asarray(scaled.crop((left, top, left + SIDE, top + SIDE))).astype(int)
    inner = (slice(2, -2), slice(2, -2))  # at its edges the reference also sees what was cut off
    np.testing.assert_allclose(decode(image, SIDE, "short_side").astype(int)[inner], reference[inner], atol=1)


def test_a_sliver_still_becomes_a_square() -> None:
    assert decode(photo(0, 1, 300), SIDE, "short_side").shape == (SIDE, SIDE, 3)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = photo(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90° clockwise to show
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decoded(tmp_path / "a.png"), squashed(image.transpose(Image.Transpose.ROTATE_270)))


def test_broken_exif_does_not_matter(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "good.jpg")
    photo(0).save(tmp_path / "odd.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff nonsense")
    np.testing.assert_array_equal(decoded(tmp_path / "odd.jpg"), decoded(tmp_path / "good.jpg"))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = photo(0).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    np.testing.assert_array_equal(decoded(path), squashed(Image.open(path).convert("RGB")))


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    image = photo(0, SIDE, SIDE).convert("RGBA")
    image.paste((9, 9, 9, 0), (0, 0, 8, SIDE))
    image.save(tmp_path / "a.png")
    pixels = decoded(tmp_path / "a.png")
    assert (pixels[:, :8] == 255).all()
    np.testing.assert_array_equal(pixels[:, 8:], np.asarray(image)[:, 8:, :3])


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (SIDE, SIDE), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(0, (0, 0, 8, SIDE))
    image.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    pixels = decoded(tmp_path / "a.png")
    assert (pixels[:, :8] == 255).all()
    assert (pixels[:, 8:] == (40, 50, 60)).all()


def test_sixteen_bit_greys_keep_their_upper_bits(tmp_path: Path) -> None:
    Image.fromarray(np.full((SIDE, SIDE), 0x80FF, dtype=np.uint16)).save(tmp_path / "a.png")
    assert (decoded(tmp_path / "a.png") == 0x80).all()


def test_a_large_jpeg_is_drafted_but_looks_the_same(tmp_path: Path) -> None:
    photo(0, 400, 300).save(tmp_path / "a.jpg", quality=95)
    full = squashed(Image.open(tmp_path / "a.jpg")).astype(int)
    difference = np.abs(decoded(tmp_path / "a.jpg") - full)
    assert difference.any()
    assert difference.mean() < 1


def test_a_very_large_image_passes_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(0, 40, 40).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert decoded(tmp_path / "a.png").shape == (SIDE, SIDE, 3)


def test_every_file_that_does_not_decode_is_named(tmp_path: Path) -> None:
    names = ["good.jpg", "truncated.jpg", "text.png", "empty.jpg", "gone.jpg"]
    good, truncated, text, empty, gone = (tmp_path / name for name in names)
    photo(0, 200, 200).save(good)
    truncated.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    text.write_text("not a picture")
    empty.touch()
    paths = [good, truncated, text, empty, gone]
    with pytest.raises(BadInput) as caught:
        decode_all(listing(paths), SIDE, "squash")
    with pytest.raises(BadInput) as tried:
        try_decoding(listing(paths), SIDE, "squash")
    assert tried.value.problems == caught.value.problems
    assert [p.got.split("'")[1] for p in caught.value.problems] == [str(p) for p in (truncated, text, empty, gone)]
    assert {(p.where, p.expected) for p in caught.value.problems} == {("root", "images that decode")}
    assert "truncated" in caught.value.problems[0].got


def test_a_pointer_in_place_of_an_image_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(BadInput, match="a pointer of Git LFS in place of the file: `git lfs pull` fetches it"):
        decode_all(replace(listing([tmp_path / "a.png"]), in_files=True), SIDE, "squash")


def test_a_decompression_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(0, 40, 40).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadInput) as caught:
        decoded(tmp_path / "a.png")
    [problem] = caught.value.problems
    assert problem == Problem("root", "images that decode", problem.got)
    assert problem.got.startswith(f"'{tmp_path / 'a.png'}': DecompressionBombError: ")
