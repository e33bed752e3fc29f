"""Settings of the view, and how those of earlier versions are read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainables.data.config import AUGMENTATION, IMAGE_VIEW, DataConfig

OTHER: dict[str, Any] = {
    "crop": "random_resized",
    "crop_area": 0.1,
    "crop_aspect": 2.0,
    "flip": False,
    "color_jitter": 0.4,
    "auto_augment": "trivial_augment",
    "auto_augment_magnitude": 5,
    "erasing": 0.25,
}
"""Values of the augmentations that are not the defaults."""


@pytest.mark.parametrize(("written", "read"), [(True, "random"), (False, "none"), ("none", "none")])
def test_a_crop_of_earlier_versions_is_a_boolean(written: Any, read: str) -> None:
    config = DataConfig(dataset="digits", crop=written)
    assert config.crop == read
    assert DataConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_record_without_the_newer_keys_is_the_default() -> None:
    record = {"dataset": "digits", "crop": True, "flip": True, "size_px": 224}
    assert DataConfig.model_validate(record) == DataConfig(dataset="digits")


@pytest.mark.parametrize(
    "fields",
    [
        {"crop": "centre"},
        {"crop": 1},
        {"crop_area": 0},
        {"crop_area": 1.1},
        {"crop_aspect": 0.75},
        {"color_jitter": -0.1},
        {"color_jitter": 1.1},
        {"auto_augment": "auto"},
        {"auto_augment_magnitude": 31},
        {"erasing": 1.1},
    ],
    ids=str,
)
def test_values_outside_of_the_ranges_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        DataConfig(dataset="digits", **fields)
    assert [error["loc"] for error in caught.value.errors()] == [tuple(fields)]


def test_the_augmentations_are_fields_of_the_view() -> None:
    assert set(OTHER) == set(AUGMENTATION) <= set(IMAGE_VIEW) <= set(DataConfig.model_fields)
    assert DataConfig(dataset="digits", **OTHER).model_dump(include={*OTHER}) == OTHER


@pytest.mark.parametrize("key", OTHER)
def test_texts_have_no_augmentations(key: str) -> None:
    with pytest.raises(ValidationError, match=f"none of the keys for images .* got {key}="):
        DataConfig(dataset="sst5", **{key: OTHER[key]})
