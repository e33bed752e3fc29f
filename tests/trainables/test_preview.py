"""The preview shows what the student is given, of every method, and the labels that go with it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.trainables.methods.contract import started_method
from tests.trainables.methods.settings import SETTINGS
from tests.trainables.tiny import tiny_batch
from trainables.config import TrialConfig
from trainables.data.batches import training_batch
from trainables.data.images import LabelledImages
from trainables.methods import METHODS, MethodConfig
from trainables.methods.mixing import draw_mix
from trainables.preview import LINE_PX, PADDING_PX, in_words, mixed_pixels, preview_png, training_inputs
from trainables.seeding import rng_for, seed_for

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    """Thirty random images of 120×120."""
    pixels = rng_for(0, "images").integers(0, 256, (30, 120, 120, 3), dtype=np.uint8)
    return LabelledImages.of(pixels, np.arange(30) % 3, ("apple", "pear", "Äpfel und Birnen, in einem Wort: Obst"))


def config_of(method: dict[str, Any] | None = None, **data: Any) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"dataset": "digits", "size_px": 100, "resize_px": 120, **data},
            "backbone": {"name": "package/efficientnet_lite0"},
            "method": method or {"name": "l2"},
            "training": {"batch_size": 14},
        }
    )


@pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS.keys())
def test_pixels_are_those_that_the_student_is_given(config: MethodConfig) -> None:
    """Up to the order of mixing and normalising; of hidden layers that are mixed nothing is shown."""
    method = started_method(config)
    given: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given.append(inputs[0].detach())

    method.student.backbone.register_forward_pre_hook(note)
    for step in range(1, 6):
        given.clear()
        batch = tiny_batch(step)
        method.loss(batch)
        pixels, _, _ = mixed_pixels(config, batch, method.context.seed)
        torch.testing.assert_close(given[0], method.student.embed(pixels), atol=1e-4, rtol=1e-4)


def test_every_kind_of_mixing_is_among_them() -> None:
    captions = {
        mixed_pixels(config, tiny_batch(step), 7)[2].split(" with ")[0].split(" of ")[0]
        for config in SETTINGS.values()
        for step in range(1, 6)
    }
    assert {"", "mixup: mixup", "cutmix: CutMix", "smile: mixup", "l2: mixup", "l2: CutMix"} <= captions
    assert "manifold_mixup: mixup" in captions


def test_the_batch_is_that_of_the_retraining_that_becomes_the_model(images: LabelledImages) -> None:
    config = config_of(crop="random_resized", color_jitter=0.4)
    seed = seed_for(seed_for(config.seed, "retrain", 0), "full")
    batch = training_batch(images, config.data, 14, seed, 2, CPU)
    shown = training_inputs(config, images, step=2)
    np.testing.assert_array_equal(shown.images, batch.inputs.permute(0, 2, 3, 1).numpy())
    assert shown.labels == [[images.class_names[label]] for label in batch.labels.tolist()]


def test_labels_are_mixed_as_inputs_are(images: LabelledImages) -> None:
    config = config_of({"name": "mixup", "alpha": 100})
    mix = draw_mix(14, 100, CPU, seed_for(seed_for(config.seed, "retrain", 0), "full"), step=1)
    classes = [lines[0] for lines in training_inputs(config_of(), images).labels]
    shown = training_inputs(config, images)
    assert shown.mixing == f"mixup: mixup with λ = {mix.weight:.2f}"
    own, other = f"{mix.weight:.0%}", f"{1 - mix.weight:.0%}"
    partners = [classes[i] for i in mix.partner.tolist()]
    assert shown.labels == [
        [mine] if mine == theirs else [f"{own} {mine}", f"{other} {theirs}"]
        for mine, theirs in zip(classes, partners, strict=True)
    ]
    assert max(map(len, shown.labels)) == 2


def test_two_views_are_beside_each_other(images: LabelledImages) -> None:
    assert METHODS["bi_tuning"].num_views == 2
    one, two = (training_inputs(config_of({"name": name}), images) for name in ("l2", "bi_tuning"))
    np.testing.assert_array_equal(two.images[::2], one.images)
    assert two.labels[:2] == [one.labels[0], [*one.labels[0], "second view"]]
    assert not np.array_equal(two.images[0], two.images[1])


class TestTheSheet:
    def test_has_the_images_as_they_are(self, images: LabelledImages) -> None:
        sheet = opened(preview_png(config_of(), images))
        top = 2 * LINE_PX + 2 * PADDING_PX
        step_x, step_y = 100 + PADDING_PX, 100 + PADDING_PX + LINE_PX
        assert sheet.shape == (top + 3 * step_y, 6 * step_x + PADDING_PX, 3)
        for i, image in enumerate(training_inputs(config_of(), images).images):
            y, x = top + i // 6 * step_y, PADDING_PX + i % 6 * step_x
            np.testing.assert_array_equal(sheet[y : y + 100, x : x + 100], image)
            below = sheet[y + 100 : y + 100 + LINE_PX, x : x + 100]
            assert below.min() < 100, "its label"
            assert below[:, -1].min() > 200 or i % 6 == 5, "labels end where their image does"

    def test_has_no_more_images_than_asked_for(self, images: LabelledImages) -> None:
        rows = [opened(preview_png(config_of(), images, num_images=count)).shape[0] for count in (6, 7, 24)]
        assert np.diff(rows).tolist() == [100 + PADDING_PX + LINE_PX] * 2

    @pytest.mark.parametrize(("size_px", "tile_px"), [(10, 100), (50, 100), (224, 160)])
    def test_shows_small_images_larger_and_large_ones_smaller(self, size_px: int, tile_px: int) -> None:
        pixels = rng_for(0, "images").integers(0, 256, (12, 256, 256, 3), dtype=np.uint8)
        images = LabelledImages.of(pixels, np.arange(12), tuple("abcdefghijkl"))
        sheet = opened(preview_png(config_of(size_px=size_px, resize_px=256), images))
        assert sheet.shape[1] == 6 * (tile_px + PADDING_PX) + PADDING_PX
        smaller = opened(preview_png(config_of(size_px=size_px, resize_px=256), images, max_tile_px=100))
        assert smaller.shape[1] == 6 * (100 + PADDING_PX) + PADDING_PX

    def test_is_the_same_every_time(self, images: LabelledImages) -> None:
        config = config_of({"name": "cutmix"}, auto_augment="rand_augment", erasing=0.5)
        assert preview_png(config, images) == preview_png(config, images)
        assert preview_png(config, images) != preview_png(config, images, step=2)


def opened(png: bytes) -> Any:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image)


def test_augmentations_in_words() -> None:
    everything = config_of(
        crop="random_resized", crop_area=0.2, color_jitter=0.3, auto_augment="rand_augment", erasing=0.25
    )
    assert in_words(everything.data) == (
        "crop random_resized (area from 0.2, aspect to 1.33), flip, color_jitter 0.3, rand_augment (magnitude 9), "
        "erasing 0.25"
    )
    assert in_words(config_of(crop="none", flip=False, auto_augment="trivial_augment").data) == (
        "crop none, trivial_augment"
    )
