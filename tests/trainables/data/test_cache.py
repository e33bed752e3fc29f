from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import cache, mapped_pixels
from trainables.data.cache import DEFAULT_GB, Cache, cached, content_key
from trainables.data.datasets.listing import Listing
from trainables.data.decoding import Resize, decode_all
from trainables.data.images import Pixels
from trainables.data.loading import check_decodes, load_train, plan_splits
from trainables.data.mapped_pixels import HEADER_BYTES
from trainables.errors import BadInput

from .conftest import LOAD_PHOTOS, SIDE, MakeFolder, entries, fruit, listing, photo, photos, pixels_of

pytestmark = pytest.mark.usefixtures("folder")

ENTRY_BYTES = HEADER_BYTES + 3 * SIDE * SIDE * 3
"""Of three images."""


class TestAnEntry:
    def test_is_what_decoding_gives_and_is_decoded_once(self, paths: list[Path], decoded: list[Image.Image]) -> None:
        expected = decode_all(listing(paths), SIDE, "squash")
        decoded.clear()
        for _ in range(2):
            pixels = pixels_of(paths)
            np.testing.assert_array_equal(pixels, expected)
            assert len(decoded) == 3
        assert not pixels.flags.writeable
        assert not pixels.flags.owndata

    def test_holds_for_the_same_files_elsewhere(self, paths: list[Path], decoded: list[Image.Image]) -> None:
        pixels_of(paths)
        pixels_of([path.rename(path.with_suffix(".moved")) for path in paths])
        assert len(decoded) == 3

    def test_is_another_one_for_other_files_orders_sizes_and_ways(
        self, paths: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = [content_key(listing(paths), SIDE, "squash"), content_key(listing(paths), SIDE + 1, "squash")]
        keys += [content_key(listing(paths), SIDE, "short_side"), content_key(listing(paths[::-1]), SIDE, "squash")]
        keys += [content_key(listing(paths[:2]), SIDE, "squash")]
        monkeypatch.setattr(cache, "FORMAT", 0)
        keys += [content_key(listing(paths), SIDE, "squash")]
        monkeypatch.undo()
        monkeypatch.setattr(cache.PIL, "__version__", "0")
        keys += [content_key(listing(paths), SIDE, "squash")]
        assert len(set(keys)) == len(keys)

    def test_notices_a_file_that_changed_and_kept_its_size_and_time(self, tmp_path: Path) -> None:
        path = tmp_path / "grey.bmp"
        for level in (10, 200):
            Image.new("RGB", (SIDE, SIDE), (level,) * 3).save(path)
            os.utime(path, (1, 1))
            assert (pixels_of([path]) == level).all()

    @pytest.mark.parametrize("damage", ["cut", "longer", "other version", "other images", "empty"])
    def test_that_is_damaged_is_made_anew(
        self, damage: str, paths: list[Path], folder: Path, decoded: list[Image.Image], caplog: pytest.LogCaptureFixture
    ) -> None:
        expected = pixels_of(paths).copy()
        (path,) = folder.iterdir()
        whole = path.read_bytes()
        damaged = {
            "cut": whole[:-1],
            "longer": whole + b"\0",
            "other version": whole.replace(b'"format": 1', b'"format": 0'),
            "other images": whole.replace(path.stem.encode(), b"0" * 32),
            "empty": b"",
        }[damage]
        assert damaged != whole
        path.write_bytes(damaged)
        np.testing.assert_array_equal(pixels_of(paths), expected)
        assert len(decoded) == 6
        (record,) = caplog.records
        assert record.message.startswith("decoded images are made anew: expected ")
        assert path.read_bytes() == whole

    def test_names_every_file_that_does_not_decode_and_stays_away(
        self, paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache, "PART_BYTES", SIDE * SIDE * 3)
        for path in (paths[0], paths[2]):
            path.write_text("not a picture")
        with pytest.raises(BadInput) as caught:
            cached(listing(paths), SIDE, "squash")
        assert [p.got.split("'")[1] for p in caught.value.problems] == [str(paths[0]), str(paths[2])]
        assert entries(folder) == set()

    def test_is_none_where_a_file_cannot_be_read(self, paths: list[Path]) -> None:
        paths[1].unlink()  # which decoding says better
        assert cached(listing(paths), SIDE, "squash") is None

    def test_is_not_kept_of_a_file_that_changes_meanwhile(
        self, paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def changing(part: Listing, side: int, resize: Resize) -> Pixels:
            photo(99).save(paths[1])
            return decode_all(part, side, resize)

        monkeypatch.setattr(cache, "decode_all", changing)
        assert cached(listing(paths), SIDE, "squash") is None
        assert entries(folder) == set()
        assert "not kept on disk: an image has changed while the images were decoded" in caplog.text

    def test_is_none_of_what_is_in_no_files(self, paths: list[Path], folder: Path) -> None:
        assert cached(replace(listing(paths), in_files=False), SIDE, "squash") is None
        assert not folder.exists()

    def test_can_be_made_by_two_at_once(
        self, paths: list[Path], folder: Path, decoded: list[Image.Image], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second begins when the first has decoded and not yet written, and is done before it."""
        in_parts, others = cache.in_parts, list[Pixels]()

        def overtaken(*arguments: object) -> Iterator[Pixels]:
            yield from in_parts(listing(paths), SIDE, "squash")
            monkeypatch.setattr(cache, "in_parts", in_parts)
            others.append(pixels_of(paths))

        monkeypatch.setattr(cache, "in_parts", overtaken)
        np.testing.assert_array_equal(pixels_of(paths), others[0])
        assert len(decoded) == 6
        assert len(entries(folder)) == 1

    def test_can_be_made_by_two_processes(self, paths: list[Path], folder: Path) -> None:
        command = [sys.executable, "-c", LOAD_PHOTOS + "print(load(300).sum())", *map(str, paths)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = {process.communicate()[0] for process in both}
        assert [process.returncode for process in both] == [0, 0]
        assert outputs == {f"{pixels_of(100 * paths, 148).sum()}\n"}
        assert len(entries(folder)) == 1


class TestItsLimit:
    @pytest.fixture(autouse=True)
    def two_entries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNER_CACHE_GB", f"{2 * ENTRY_BYTES / 1e9:.9f}")

    def test_drops_what_was_used_least_recently(self, tmp_path: Path, folder: Path, decoded: list[Image.Image]) -> None:
        first, second, third = (photos(tmp_path, 3, seed) for seed in (0, 10, 20))
        for age_s, made in ((300, first), (200, second)):
            before = entries(folder) if folder.exists() else set()
            pixels_of(made)
            (name,) = entries(folder) - before
            os.utime(folder / name, (time.time() - age_s,) * 2)
        pixels_of(first)  # is the older one, but used since
        pixels_of(third)
        assert len(entries(folder)) == 2
        decoded.clear()
        pixels_of(first), pixels_of(third)
        assert decoded == []

    def test_spares_what_is_in_use(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        held = [pixels_of(photos(tmp_path, 3, seed)) for seed in (0, 10)]
        assert cached(listing(photos(tmp_path, 3, 20)), SIDE, "squash") is None
        assert "beside the entries in use, within TUNER_CACHE_GB=" in caplog.text
        held.pop()
        pixels_of(photos(tmp_path, 3, 20))

    def test_drops_nothing_for_what_can_never_fit(
        self, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        pixels_of(photos(tmp_path, 3))
        before = entries(folder)
        assert cached(listing(photos(tmp_path, 3)), 10 * SIDE, "squash") is None
        assert entries(folder) == before
        assert "decoded images are not kept on disk: 0.00 GB do not fit" in caplog.text

    def test_clears_up_after_processes_that_were_killed(self, tmp_path: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, age_s in (("old.unfinished", 2 * cache.ABANDONED_S), ("new.unfinished", 0.0), ("else.txt", 1e6)):
            (folder / name).write_bytes(b"1234")
            os.utime(folder / name, (time.time() - age_s,) * 2)
        pixels_of(photos(tmp_path, 3))
        assert {name for name in entries(folder) if not name.endswith(".pixels")} == {"new.unfinished", "else.txt"}

    def test_of_zero_is_no_cache(self, paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNER_CACHE_GB", "0")
        assert cached(listing(paths), SIDE, "squash") is None
        assert not folder.exists()

    @pytest.mark.parametrize("gigabytes", ["much", "-1", "inf", "nan"])
    def test_is_a_number(self, gigabytes: str, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNER_CACHE_GB", gigabytes)
        with pytest.raises(BadInput, match=f"expected a number of gigabytes .* TUNER_CACHE_GB, .*, got '{gigabytes}'"):
            cached(listing(paths), SIDE, "squash")


class TestItsFolder:
    def test_is_the_first_of_three(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        found = [Cache.from_environment()]
        for name in ("TUNER_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name)
            found.append(Cache.from_environment())
        folders = [tmp_path / "cache", tmp_path / "xdg" / "tuner", tmp_path / "home" / ".cache" / "tuner"]
        assert found == [Cache(folder / "images", int(DEFAULT_GB * 1e9)) for folder in folders]

    def test_is_none_of_a_user_without_a_home(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("TUNER_CACHE", "~nobody-of-this-name/cache")
        assert Cache.from_environment() is None
        assert "TUNER_CACHE names no folder" in caplog.text

    def test_may_be_in_no_place_for_one(
        self, make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "cache").write_text("a file")
        assert len(load_train(fruit(make_folder({"fig": 3, "lime": 3})))) == 5
        assert "decoded images are not kept on disk: " in caplog.text
        assert {record.levelno for record in caplog.records} == {logging.WARNING}

    def test_may_be_full(
        self, make_folder: MakeFolder, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*arguments: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(mapped_pixels.os, "posix_fallocate", refuse)
        config = fruit(make_folder({"fig": 3, "lime": 3}))
        images = load_train(config)
        check_decodes(config, "test")
        np.testing.assert_array_equal(images.pixels, decode_all(plan_splits(config).train, 9, "squash"))
        assert images.file is None
        assert "decoded images are not kept on disk: [Errno 28] No space left on device" in caplog.text
        assert entries(folder) == set()
