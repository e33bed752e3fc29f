"""Augmentations are torchvision's: to the bit from the same state of the generator, and in distribution."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest, ks_2samp
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_image, to_pil_image

from trainables.data import batches
from trainables.data.augmentation import View
from trainables.data.batches import evaluation_batches, training_batch
from trainables.data.config import DataConfig
from trainables.data.gpu_pixels import GpuPixelCache
from trainables.data.image_transforms import ERASED, transforms_of
from trainables.data.images import LabelledImages
from trainables.seeding import rng_for, torch_seeded

CPU = torch.device("cpu")
PLAIN = DataConfig(dataset="digits", size_px=16, resize_px=20, crop="none", flip=False)
EVERYTHING: dict[str, Any] = {
    "crop": "random_resized",
    "flip": True,
    "color_jitter": 0.4,
    "auto_augment": "rand_augment",
    "erasing": 0.5,
}


def inputs_at(images: LabelledImages, step: int = 1, base: DataConfig = PLAIN, **fields: Any) -> Tensor:
    """The inputs of a batch of seven images."""
    config = DataConfig.model_validate(base.model_dump() | fields)
    return training_batch(images, config, 7, 0, step, CPU).inputs


@pytest.mark.parametrize(
    ("fields", "purpose", "transform"),
    [
        (
            {"crop": "random_resized"},
            "crop",
            v2.RandomResizedCrop(16, scale=(0.35, 1.0), ratio=(3 / 4, 4 / 3), antialias=True),
        ),
        (
            {"crop": "random_resized", "crop_area": 0.08, "crop_aspect": 2.0},
            "crop",
            v2.RandomResizedCrop(16, scale=(0.08, 1.0), ratio=(0.5, 2.0), antialias=True),
        ),
        ({"color_jitter": 0.4}, "color_jitter", v2.ColorJitter(0.4, 0.4, 0.4, 0.0)),
        ({"auto_augment": "rand_augment"}, "auto_augment", v2.RandAugment()),
        (
            {"auto_augment": "rand_augment", "auto_augment_magnitude": 20},
            "auto_augment",
            v2.RandAugment(num_ops=2, magnitude=20),
        ),
        ({"auto_augment": "trivial_augment"}, "auto_augment", v2.TrivialAugmentWide()),
        ({"erasing": 0.5}, "erasing", v2.RandomErasing(0.5, value=list(ERASED))),
    ],
    ids=["resized crop", "wider crop", "colours", "rand_augment", "strong rand_augment", "trivial_augment", "erasing"],
)
def test_images_are_torchvisions_from_the_same_generator(
    images: LabelledImages, fields: dict[str, Any], purpose: str, transform: v2.Transform
) -> None:
    before = PLAIN if purpose != "crop" else PLAIN.model_copy(update={"size_px": 20})
    for step in (1, 2, 9):
        plain = inputs_at(images, step, before)
        given = [to_pil_image(image) for image in plain] if purpose == "auto_augment" else plain
        with torch_seeded(0, "augment", step, purpose):
            expected = torch.stack([to_image(transform(image)) for image in given])
        changed = inputs_at(images, step, **fields)
        assert torch.equal(changed, expected)
        assert not torch.equal(changed, inputs_at(images, step))
        assert changed.dtype == torch.uint8
        assert changed.is_contiguous(memory_format=torch.channels_last)


class Crops(NamedTuple):
    """Areas of crops as shares of the stored image's, and their aspect ratios, width to height."""

    areas: NDArray[np.float64]
    aspects: NDArray[np.float64]


STORED_PX, SIZE_PX = 120, 60


def ramp() -> NDArray[np.uint8]:
    """An image whose red and green say in which row and column a pixel was."""
    row, column = np.indices((STORED_PX, STORED_PX), dtype=np.uint8)
    return np.stack([row, column, 0 * row], axis=2)


def crops_in(images_NCHW: Tensor) -> Crops:
    """The crops that were made of ramps, read off the middles of their edges."""
    rows = images_NCHW[:, 0, :, SIZE_PX // 2].double()
    columns = images_NCHW[:, 1, SIZE_PX // 2].double()
    height, width = ((line[:, 50] - line[:, 9]).abs().numpy() * SIZE_PX / 41 for line in (rows, columns))
    return Crops(height * width / STORED_PX**2, width / height)


@pytest.fixture(scope="module")
def our_crops() -> Tensor:
    """Six hundred augmented ramps."""
    images = LabelledImages.of(ramp()[None].repeat(30, axis=0), np.zeros(30), ("a",))
    config = DataConfig(dataset="digits", size_px=SIZE_PX, resize_px=STORED_PX, crop="random_resized")
    return torch.cat([training_batch(images, config, 30, 0, step, CPU).inputs for step in range(1, 21)])


def their_crops(area: float, aspect: float) -> Crops:
    crop = v2.RandomResizedCrop(SIZE_PX, scale=(area, 1.0), ratio=(1 / aspect, aspect))
    image = torch.from_numpy(ramp()).permute(2, 0, 1)
    with torch_seeded(0, "torchvision"):
        return crops_in(torch.stack([crop(image) for _ in range(600)]))


def test_resized_crops_are_distributed_as_torchvisions(our_crops: Tensor) -> None:
    """Kolmogorov–Smirnov, of areas and aspect ratios; half of them are flipped."""
    ours, theirs = crops_in(our_crops), their_crops(0.35, 4 / 3)
    assert ks_2samp(ours.areas, theirs.areas).pvalue > 0.01
    assert ks_2samp(ours.aspects, theirs.aspects).pvalue > 0.01
    assert 0.3 < ours.areas.min() < 0.42
    assert ours.areas.max() > 0.9
    num_flipped = int((our_crops[:, 1, 30, 0] > our_crops[:, 1, 30, -1]).sum())
    assert binomtest(num_flipped, len(our_crops)).pvalue > 0.01


def test_the_comparison_with_torchvision_would_notice_other_crops(our_crops: Tensor) -> None:
    ours = crops_in(our_crops)
    assert ks_2samp(ours.areas, their_crops(0.08, 4 / 3).areas).pvalue < 1e-6
    assert ks_2samp(ours.aspects, their_crops(0.35, 2.0).aspects).pvalue < 1e-6


def test_as_many_images_are_erased_as_asked_for() -> None:
    images = LabelledImages.of(np.zeros((50, 20, 20, 3), dtype=np.uint8), np.zeros(50), ("a",))
    config = PLAIN.model_copy(update={"erasing": 0.25})
    erased = [
        training_batch(images, config, 50, 0, step, CPU).inputs.flatten(1).amax(dim=1) > 0 for step in range(1, 21)
    ]
    assert binomtest(int(torch.cat(erased).sum()), 1000, 0.25).pvalue > 0.01


def erased_in(inputs_NCHW: Tensor) -> Tensor:
    return (inputs_NCHW == torch.tensor(ERASED)[:, None, None]).all(dim=1)


def test_each_kind_has_draws_of_its_own(images: LabelledImages) -> None:
    """What is erased, and where a crop is taken, does not depend on what else is on."""
    alone = erased_in(inputs_at(images, erasing=1.0))
    assert alone.flatten(1).any(dim=1).all()
    for others in ({"color_jitter": 0.4}, {"auto_augment": "trivial_augment"}, {"crop": "random_resized"}):
        assert torch.equal(erased_in(inputs_at(images, erasing=1.0, **others)), alone)
    resized = inputs_at(images, crop="random_resized")
    mirrored = View.random(7, (20, 20), 16, False, True, 0, 1).mirrored
    assert 0 < mirrored.sum() < 7
    for i, image in enumerate(inputs_at(images, crop="random_resized", flip=True)):
        assert torch.equal(image, resized[i].flip(2) if mirrored[i] else resized[i])


class Devices(TorchDispatchMode):
    """Notes the devices of the tensors of each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.together: list[set[str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        self.together.append({each.device.type for each in tensors})
        return func(*args, **kwargs or {})


def test_what_is_erased_is_filled_on_the_device() -> None:
    """From the host, each image's colour would be copied with a wait."""
    meta = torch.device("meta")
    (erasing,) = transforms_of(PLAIN.model_copy(update={"erasing": 1.0}), meta).values()
    with Devices() as devices:
        erasing(torch.empty(3, 16, 16, dtype=torch.uint8, device=meta))
    assert {"meta"} in devices.together
    assert {"cpu", "meta"} not in devices.together


class TestEverythingAtOnce:
    def test_does_not_depend_on_the_order_of_calls_nor_on_the_generator(self, images: LabelledImages) -> None:
        forward = {step: inputs_at(images, step, **EVERYTHING) for step in range(1, 10)}
        for step in reversed(range(1, 10)):
            torch.manual_seed(step)
            state = torch.get_rng_state()
            assert torch.equal(inputs_at(images, step, **EVERYTHING), forward[step])
            assert torch.equal(torch.get_rng_state(), state)

    def test_gives_a_second_view_that_changes_nothing_else(self, images: LabelledImages) -> None:
        config = DataConfig.model_validate(PLAIN.model_dump() | EVERYTHING)
        one, two = (training_batch(images, config, 7, 0, 3, CPU, num_views) for num_views in (1, 2))
        assert torch.equal(one.inputs, two.inputs)
        assert two.second_inputs is not None
        assert all(not torch.equal(*pair) for pair in zip(two.inputs, two.second_inputs, strict=True))
        assert two.second_inputs.is_contiguous(memory_format=torch.channels_last)

    def test_leaves_the_stored_images_and_evaluation_as_they_are(self, images: LabelledImages) -> None:
        config = DataConfig.model_validate(PLAIN.model_dump() | EVERYTHING)
        before = images.pixels.copy()
        training_batch(images, config, 7, 0, 1, CPU)
        np.testing.assert_array_equal(images.pixels, before)
        plain, augmented = (next(evaluation_batches(images, each, 30, CPU)) for each in (PLAIN, config))
        assert torch.equal(augmented.inputs, plain.inputs)

    def test_is_the_same_of_pixels_on_the_device(self, images: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
        chosen = images.take(range(5, 30))
        from_host = [inputs_at(chosen, step, **EVERYTHING) for step in (1, 2, 9)]
        monkeypatch.setattr(batches, "_GPU_PIXELS", GpuPixelCache(lambda device: 10**9))
        for step, expected in zip((1, 2, 9), from_host, strict=True):
            assert torch.equal(inputs_at(chosen, step, **EVERYTHING), expected)

    def test_takes_images_that_are_not_square(self, images: LabelledImages) -> None:
        pixels = np.ascontiguousarray(images.pixels[:, :18])
        wide = LabelledImages.of(pixels, images.labels, images.class_names)
        assert inputs_at(wide, **EVERYTHING).shape == (7, 3, 16, 16)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_has_the_same_draws_on_a_gpu(self, images: LabelledImages) -> None:
        """Resizing rounds otherwise there; what is erased is the same to the bit."""
        config = PLAIN.model_copy(update={"crop": "random_resized", "flip": True, "erasing": 0.5})
        expected = training_batch(images, config, 7, 0, 5, CPU).inputs
        inputs = training_batch(images, config, 7, 0, 5, torch.device("cuda")).inputs
        assert inputs.is_cuda
        assert torch.equal(erased_in(inputs.cpu()), erased_in(expected))
        assert (inputs.cpu().int() - expected.int()).abs().max() <= 2


def test_the_default_view_is_that_of_earlier_versions() -> None:
    """Sums of crops and flips of numbered images, as they were before there were other augmentations."""
    pixels = rng_for(0, "images").integers(0, 256, (30, 20, 20, 3), dtype=np.uint8)
    images = LabelledImages.of(pixels, np.arange(30) % 3, ("a", "b", "c"))
    config = DataConfig(dataset="digits", size_px=16, resize_px=20)
    weights = torch.arange(7 * 3 * 16 * 16).view(7, 3, 16, 16) % 1009
    sums = []
    for step in (1, 2, 9):
        batch = training_batch(images, config, 7, 0, step, CPU, num_views=2)
        assert batch.second_inputs is not None
        sums += [int((each.long() * weights).sum()) for each in (batch.inputs, batch.second_inputs)]
    assert sums == [332126178, 334070872, 332138133, 332328143, 326336758, 329680116]
