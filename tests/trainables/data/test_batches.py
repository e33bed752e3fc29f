from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.data import batches
from trainables.data.batches import evaluation_batches, steps_per_epoch, training_batch
from trainables.data.config import DataConfig
from trainables.data.gpu_pixels import GpuPixelCache
from trainables.data.images import LabelledImages
from trainables.data.texts import TokenisedTexts
from trainables.types import Batch

CPU = torch.device("cpu")
CONFIG = DataConfig(dataset="digits", size_px=16, resize_px=20)


def batch_at(images: LabelledImages, step: int, batch_size: int = 7, seed: int = 0) -> Batch:
    return training_batch(images, CONFIG, batch_size, seed, step, CPU)


def test_a_training_batch(images: LabelledImages) -> None:
    batch = batch_at(images, 3)
    assert batch.inputs.shape == (7, 3, 16, 16)
    assert batch.inputs.dtype == torch.uint8
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.dtype == batch.index.dtype == torch.int64
    assert batch.step == 3
    np.testing.assert_array_equal(batch.labels, images.labels[batch.index])


def test_an_epoch_sees_each_image_once_at_most(images: LabelledImages) -> None:
    epochs = [
        [i for step in steps for i in batch_at(images, step).index.tolist()] for steps in ((1, 2, 3, 4), (5, 6, 7, 8))
    ]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 28
    assert epochs[0] != epochs[1]


def test_batches_do_not_depend_on_the_order_of_calls(images: LabelledImages) -> None:
    forward = {step: batch_at(images, step) for step in range(1, 60)}
    batches._epoch_order.cache_clear()
    for step in reversed(range(1, 60)):
        again = batch_at(images, step)
        assert torch.equal(again.inputs, forward[step].inputs)
        assert torch.equal(again.index, forward[step].index)


def test_another_seed_gives_other_batches(images: LabelledImages) -> None:
    assert not torch.equal(batch_at(images, 1).index, batch_at(images, 1, seed=1).index)


def test_index_counts_within_the_selection(images: LabelledImages) -> None:
    chosen = images.take(np.arange(10, 20))
    batch = batch_at(chosen, 1)
    assert batch.index.max() < 10
    np.testing.assert_array_equal(batch.labels, chosen.labels[batch.index])
    plain = CONFIG.model_copy(update={"crop": "none", "flip": False})
    whole = training_batch(chosen, plain, 10, 0, 1, CPU)
    rows = images.pixels[10:20, 2:18, 2:18][whole.index.numpy()]
    np.testing.assert_array_equal(whole.inputs.permute(0, 2, 3, 1), rows)


def test_a_second_view_is_of_the_same_images_and_changes_nothing_else(images: LabelledImages) -> None:
    for step in (1, 2, 9):
        one, two, again = (training_batch(images, CONFIG, 7, 0, step, CPU, views) for views in (1, 2, 2))
        assert one.second_inputs is None
        for field in ("inputs", "labels", "index"):
            assert torch.equal(getattr(two, field), getattr(one, field))
        assert torch.equal(two.second_inputs, again.second_inputs)
        assert not torch.equal(two.second_inputs, two.inputs)
        assert two.second_inputs.is_contiguous(memory_format=torch.channels_last)
    plain = CONFIG.model_copy(update={"crop": "none", "flip": False})
    centres = training_batch(images, plain, 7, 0, 1, CPU, num_views=2)
    assert torch.equal(centres.second_inputs, centres.inputs)


def test_fewer_images_than_a_batch_are_one_batch(images: LabelledImages) -> None:
    few = images.take([4, 8, 12])
    assert steps_per_epoch(3, 48) == 1
    for step in (1, 2, 3):
        assert sorted(batch_at(few, step, batch_size=48).index.tolist()) == [0, 1, 2]


def test_evaluation_sees_every_centre_in_order(images: LabelledImages) -> None:
    passed = list(evaluation_batches(images, CONFIG, 8, CPU))
    assert [len(b.labels) for b in passed] == [8, 8, 8, 6]
    assert {b.step for b in passed} == {0}
    assert torch.cat([b.index for b in passed]).tolist() == list(range(30))
    pixels = torch.cat([b.inputs for b in passed]).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(pixels, images.pixels[:, 2:18, 2:18])


def test_resident_pixels_give_the_same_batches(images: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
    from_host = [batch_at(images.take(range(5, 30)), step) for step in (1, 2, 9)]
    monkeypatch.setattr(batches, "_GPU_PIXELS", GpuPixelCache(lambda device: 10**9))
    for expected in from_host:
        batch = batch_at(images.take(range(5, 30)), expected.step)
        assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.labels, expected.labels)


def test_what_is_large_is_copied_to_a_gpu_from_page_locked_memory(
    images: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From other memory the copy would be waited for: whole images, of which crops are made, and tokens of texts."""
    cuda, pinned, copied = torch.device("cuda"), [], []

    def pin_memory(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor

    def to(tensor: Tensor, device: torch.device, non_blocking: bool) -> Tensor:
        assert device == cuda
        assert non_blocking
        copied.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(batches, "_GPU_PIXELS", GpuPixelCache(lambda device: 0))
    stored = batches._stored_pixels(images, np.arange(3), cuda)
    texts = TokenisedTexts(np.ones((4, 8), np.int64), np.full(4, 8), np.zeros(4, np.int64))
    tokens = batches._text_batch(texts, np.arange(3), 1, cuda).inputs
    assert [id(each) for each in pinned] == [id(stored), id(tokens)]
    assert {id(stored), id(tokens)} <= {id(each) for each in copied}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_batches(images: LabelledImages) -> None:
    expected = batch_at(images, 5)
    batch = training_batch(images, CONFIG, 7, 0, 5, torch.device("cuda"))
    assert batch.inputs.is_cuda
    assert torch.equal(batch.inputs.cpu(), expected.inputs)
    assert torch.equal(batch.index.cpu(), expected.index)
