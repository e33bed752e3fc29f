from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.config import TrialConfig
from trainables.data import cache, decoding, mapped_pixels
from trainables.data.batches import evaluation_batches, training_batch
from trainables.data.cache import DEFAULT_GB, Cache, cached, content_key
from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Listing
from trainables.data.decoding import Resize, decode_all
from trainables.data.folds import stratified_folds
from trainables.data.gpu_pixels import GpuPixelCache
from trainables.data.images import LabelledImages, Pixels
from trainables.data.loading import check_decodes, load_test, load_train, plan_splits
from trainables.data.mapped_pixels import HEADER_BYTES, PixelFile, memory_bytes
from trainables.errors import BadInput
from trainables.trial import FoldTraining

from .conftest import MakeFolder, photo

CPU = torch.device("cpu")
SIDE = 8
ENTRY_BYTES = HEADER_BYTES + 3 * SIDE * SIDE * 3
"""Of three images."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's entries are, and no other's."""
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """The images that were decoded, in any order."""
    images: list[Image.Image] = []

    def spy(image: Image.Image, side: int, resize: Resize) -> Pixels:
        images.append(image)
        return decode(image, side, resize)

    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", spy)
    return images


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return photos(tmp_path, 3)


def photos(folder: Path, count: int, first_seed: int = 0) -> list[Path]:
    found = [folder / f"{first_seed + i}.png" for i in range(count)]
    for i, path in enumerate(found):
        photo(first_seed + i).save(path)
    return found


def listing(paths: Sequence[Path]) -> Listing:
    labels = np.zeros(len(paths), dtype=np.int64)
    return Listing(labels, [str(p) for p in paths], lambda i: Image.open(paths[i]), in_files=True)


def pixels_of(paths: Sequence[Path], side: int = SIDE) -> Pixels:
    kept = cached(listing(paths), side, "squash")
    assert kept is not None
    return kept[1]


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fruit(root: Path, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"dataset": "imagefolder", "root": root, "size_px": SIDE, **fields})


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
        command = [sys.executable, "-c", FIRST + "print(load(300).sum())", *map(str, paths)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = {process.communicate()[0] for process in both}
        assert [process.returncode for process in both] == [0, 0]
        assert outputs == {f"{pixels_of(100 * paths, 148).sum()}\n"}
        assert len(entries(folder)) == 1


FIRST = """
import resource, sys
import numpy as np
from PIL import Image
from trainables.data import cache
from trainables.data.datasets.listing import Listing

def load(count):
    names = [sys.argv[1 + i % 3] for i in range(count)]
    listing = Listing(np.zeros(count, dtype=np.int64), names, lambda i: Image.open(names[i]), in_files=True)
    return cache.cached(listing, 148, "squash")[1]

"""
"""Of a process that loads as many images as it is told to."""


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
        assert "beside what is in use there, within TUNER_CACHE_GB=" in caplog.text
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


class TestLoading:
    def test_decodes_nothing_for_the_second_time(self, make_folder: MakeFolder, decoded: list[Image.Image]) -> None:
        config = fruit(make_folder({"train/fig": 3, "train/lime": 3, "test/fig": 2, "test/lime": 2}))
        for _ in range(2):
            load_train(config), check_decodes(config, "test"), load_test(config)
            assert len(decoded) == 10

    def test_gives_what_it_gives_without(self, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        """Through folds, batches and a fold's training."""
        config = TrialConfig.model_validate(
            {
                "data": fruit(make_folder({"fig": 8, "lime": 8}), size_px=32, resize_px=36),
                "backbone": {"name": "package/efficientnet_lite0", "pretrained": False},
                "method": {"name": "l2"},
                "training": {"num_steps": 2, "batch_size": 4},
            }
        )
        in_file = load_train(config.data)
        monkeypatch.setenv("TUNER_CACHE_GB", "0")
        in_memory = load_train(config.data)
        assert isinstance(in_file, LabelledImages)
        assert isinstance(in_memory, LabelledImages)
        assert (in_file.file is not None, in_memory.file) == (True, None)
        fold = stratified_folds(in_file.labels, 2, 0)[0]
        results = []
        for images in (in_file, in_memory):
            part = images.take(fold.train)
            assert np.shares_memory(part.pixels, images.pixels)
            batch = training_batch(part, config.data, 4, 0, 1, CPU)
            whole = torch.cat([b.inputs for b in evaluation_batches(part, config.data, 4, CPU)])
            resident = GpuPixelCache(lambda device: 10**9).get(images.pixels, CPU)
            result = FoldTraining(config, images, 1, fold, CPU, None).result()
            results.append((batch.inputs, whole, resident, result.val_top1, list(result.loss_terms.values())))
        for here, there in zip(*results, strict=True):
            assert torch.equal(torch.as_tensor(here), torch.as_tensor(there))

    def test_holds_a_part_in_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache, "PART_BYTES", 2 * SIDE * SIDE * 3 + 1)
        sizes: list[int] = []

        def spy(part: Listing, side: int, resize: Resize) -> Pixels:
            sizes.append(len(part))
            return decode_all(part, side, resize)

        monkeypatch.setattr(cache, "decode_all", spy)
        paths = photos(tmp_path, 5)
        np.testing.assert_array_equal(pixels_of(paths), decode_all(listing(paths), SIDE, "squash"))
        assert sizes == [2, 2, 1]

    def test_takes_less_memory_than_the_images(self, tmp_path: Path) -> None:
        """2000 images are 131 MB, of which eight are in memory at a time. Pages of the file are of no process."""
        command = [sys.executable, "-c", FIRST + GROWTH, *map(str, photos(tmp_path, 3))]
        grown, num_bytes = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        assert num_bytes == 2000 * 148 * 148 * 3
        assert grown < num_bytes / 4


GROWTH = """
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

cache.PART_BYTES = 8 * 148 * 148 * 3
load(64)
before = peak()
pixels = load(2000)
print(peak() - before, pixels.nbytes)
"""


class TestSending:
    @pytest.fixture
    def images(self, make_folder: MakeFolder) -> LabelledImages:
        found = load_train(fruit(make_folder({"fig": 3, "lime": 3})))
        assert isinstance(found, LabelledImages)
        return found

    @pytest.fixture
    def small_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mapped_pixels, "memory_bytes", lambda: 1000)

    def test_takes_the_pixels_out_of_band(self, images: LabelledImages) -> None:
        buffers: list[pickle.PickleBuffer] = []
        back = pickle.loads(pickle.dumps(images, protocol=5, buffer_callback=buffers.append), buffers=buffers)
        assert np.shares_memory(back.pixels, images.pixels)
        assert back.file is None  # is of the sender's machine
        assert images.bytes_to_send == images.pixels.nbytes

    @pytest.mark.usefixtures("small_machine")
    def test_of_more_than_memory_has_room_for_names_the_file(self, images: LabelledImages) -> None:
        assert images.bytes_to_send == 0
        message = pickle.dumps(images.take([2, 0]), protocol=5)
        assert len(message) < 1500
        back = pickle.loads(message)
        np.testing.assert_array_equal(back.pixels[back.index], images.pixels[[2, 0]])
        np.testing.assert_array_equal(back.labels, images.labels[[2, 0]])
        assert pickle.loads(pickle.dumps(back)).file == images.file

    @pytest.mark.usefixtures("small_machine")
    @pytest.mark.parametrize("damage", ["gone", "torn"])
    def test_says_what_must_hold_where_the_file_is_not(self, damage: str, images: LabelledImages) -> None:
        assert images.file is not None
        message, path = pickle.dumps(images), images.file.path
        path.unlink()
        if damage == "torn":
            path.write_bytes(b"torn")
        message = rf"expected the decoded images {path.stem} of shape \(5, 9, 9, 3\) in '{path}' on .* TUNER_CACHE"
        with pytest.raises(OSError, match=message):
            pickle.loads(message)

    def test_memory_is_the_machines_or_the_containers(self, tmp_path: Path) -> None:
        machine = memory_bytes(tmp_path)
        (tmp_path / "memory.max").write_text("max\n")
        assert memory_bytes(tmp_path) == machine > 10**9
        (tmp_path / "memory.max").write_text("123456\n")
        assert memory_bytes(tmp_path) == 123456


def test_a_file_that_is_cut_short_in_writing_is_not_there(tmp_path: Path) -> None:
    file = PixelFile(tmp_path / "x.pixels", "x", (2, 4, 4, 3))
    with pytest.raises(AssertionError, match="bytes written"):
        file.write([np.zeros((1, 4, 4, 3), dtype=np.uint8)])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_only_to_be_read_serves(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, decoded: list[Image.Image]
) -> None:
    pixels_of(paths)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(mapped_pixels.os, "utime", refuse)
    pixels_of(paths)
    assert len(decoded) == 3
