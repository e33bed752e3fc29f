"""Files of decoded images, mapped into memory and sent by their path."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import mapped_pixels
from trainables.data.images import LabelledImages
from trainables.data.loading import load_train
from trainables.data.mapped_pixels import PixelFile, memory_bytes

from .conftest import MakeFolder, fruit, pixels_of

pytestmark = pytest.mark.usefixtures("folder")


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
        pattern = rf"expected the decoded images {path.stem} of shape \(5, 9, 9, 3\) in '{path}' on .* TUNER_CACHE"
        with pytest.raises(OSError, match=pattern):
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
