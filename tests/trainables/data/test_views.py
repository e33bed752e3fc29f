from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.data.images import LabelledImages
from trainables.data.resident import upload
from trainables.data.views import View, cut_on_device, cut_on_host

STORED = (20, 20)
CPU = torch.device("cpu")


def random_view(count: int = 30, size: int = 13, crop: bool = True, flip: bool = True, step: int = 1) -> View:
    return View.random(count, STORED, size, crop, flip, 0, step)


def test_crops_stay_inside_and_reach_every_edge() -> None:
    views = [random_view(step=step) for step in range(1, 20)]
    offsets = np.concatenate([np.stack([v.top, v.left]) for v in views], axis=1)
    assert offsets.min(axis=1).tolist() == [0, 0]
    assert offsets.max(axis=1).tolist() == [7, 7]


def test_cuts_are_exact_and_mirrors_are_exact(images: LabelledImages) -> None:
    view = random_view()
    cut = cut_on_host(images.pixels, images.index, view).numpy()
    assert view.mirrored.any()
    assert not view.mirrored.all()
    for i in range(30):
        square = images.pixels[i, view.top[i] :, view.left[i] :][:13, :13]
        np.testing.assert_array_equal(cut[i], np.fliplr(square) if view.mirrored[i] else square)


@pytest.mark.parametrize("size", [13, 20])
def test_both_ways_to_cut_agree(images: LabelledImages, size: int) -> None:
    index = images.index[::-1][:11]
    view = random_view(11, size)
    on_device = cut_on_device(upload(images.pixels, CPU), index, view)
    assert torch.equal(on_device, cut_on_host(images.pixels, index, view))


def test_images_need_not_be_square(images: LabelledImages) -> None:
    pixels = images.pixels[:, :15]
    view = View.random(30, (15, 20), 13, True, True, 0, 1)
    on_device = cut_on_device(upload(pixels, CPU), images.index, view)
    assert torch.equal(on_device, cut_on_host(pixels, images.index, view))


def test_the_centre(images: LabelledImages) -> None:
    cut = cut_on_host(images.pixels, images.index, View.centre(30, STORED, 14))
    np.testing.assert_array_equal(cut.numpy(), images.pixels[:, 3:17, 3:17])


def test_switching_one_augmentation_off_leaves_the_other() -> None:
    both, no_flip, no_crop = random_view(), random_view(flip=False), random_view(crop=False)
    np.testing.assert_array_equal(no_flip.top, both.top)
    np.testing.assert_array_equal(no_crop.mirrored, both.mirrored)
    assert not no_flip.mirrored.any()
    assert (no_crop.left == 3).all()
