from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2_contingency
from torchvision import transforms

from trainables.data.augmentation import View, cut_on_device, cut_on_host
from trainables.data.gpu_pixels import upload
from trainables.data.images import LabelledImages
from trainables.seeding import torch_seeded

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


def torchvision_draws(count: int, stored_px: int, size_px: int) -> NDArray[np.int64]:
    """Top, left and whether mirrored, of `count` augmentations as everybody does them: read off an image that says
    where each of its pixels was."""
    ramp = torch.stack(torch.meshgrid(torch.arange(stored_px), torch.arange(stored_px), indexing="ij"))
    augment = transforms.Compose([transforms.RandomCrop(size_px), transforms.RandomHorizontalFlip()])
    with torch_seeded(0, "torchvision"):
        boundary_points = [augment(ramp)[:, 0, [0, -1]] for _ in range(count)]
    return np.array([[rows[0], min(columns), columns[0] > columns[1]] for rows, columns in boundary_points])


def test_augmentation_is_distributed_as_torchvisions() -> None:
    """Every corner of the crop (4 × 4) and mirrored or not, counted, and compared by χ² of two samples."""
    count, stored_px, size_px = 3000, 8, 5
    views = [View.random(30, (stored_px, stored_px), size_px, True, True, 0, step) for step in range(count // 30)]
    ours = np.concatenate([np.stack([v.top, v.left, v.mirrored], axis=1) for v in views])
    theirs = torchvision_draws(count, stored_px, size_px)
    ours_counted, theirs_counted = (
        np.bincount(np.ravel_multi_index(draws.T, (4, 4, 2)), minlength=32) for draws in (ours, theirs)
    )
    assert ours_counted.min() > 0
    assert theirs_counted.min() > 0
    assert chi2_contingency([ours_counted, theirs_counted]).pvalue > 0.01


def test_the_comparison_with_torchvision_would_notice_a_crop_that_is_not_uniform() -> None:
    theirs = np.bincount(torchvision_draws(3000, 8, 5)[:, 0], minlength=4)
    off_by_one = np.array([0, 1000, 1000, 1000])
    assert chi2_contingency([off_by_one, theirs]).pvalue < 1e-6
