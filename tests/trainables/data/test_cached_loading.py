"""Loading through the cache of decoded images: the same images, decoded once, a part in memory at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.config import TrialConfig
from trainables.data import cache
from trainables.data.batches import evaluation_batches, training_batch
from trainables.data.datasets.listing import Listing
from trainables.data.decoding import Resize, decode_all
from trainables.data.folds import stratified_folds
from trainables.data.gpu_pixels import GpuPixelCache
from trainables.data.images import LabelledImages, Pixels
from trainables.data.loading import check_decodes, load_test, load_train
from trainables.trial import FoldTraining

from .conftest import LOAD_PHOTOS, SIDE, MakeFolder, fruit, listing, photos, pixels_of

pytestmark = pytest.mark.usefixtures("folder")

CPU = torch.device("cpu")


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
        command = [sys.executable, "-c", LOAD_PHOTOS + GROWTH, *map(str, photos(tmp_path, 3))]
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
