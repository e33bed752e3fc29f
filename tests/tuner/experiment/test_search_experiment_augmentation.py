"""Augmentations as dimensions, and experiments of earlier versions, whose `crop` is a boolean."""

from __future__ import annotations

from typing import Any

from tests.tuner.tiny import space_of
from tuner.experiment.checks import check_experiment, load_images
from tuner.experiment.search_experiment import parse_experiment

DIMENSIONS: dict[str, Any] = {
    "crop": {"choice": ["none", "random", "random_resized"]},
    "crop_area": {"uniform": [0.1, 0.9]},
    "crop_aspect": {"uniform": [1, 2]},
    "flip": {"choice": [True, False]},
    "color_jitter": {"uniform": [0.0, 0.5]},
    "auto_augment": {"choice": ["none", "rand_augment", "trivial_augment"]},
    "auto_augment_magnitude": {"int": [3, 15]},
    "erasing": {"uniform": [0.0, 0.5]},
}


def test_each_of_them_can_be_searched_on_images_that_are_decoded_once() -> None:
    space = space_of(**{f"data__{key}": dimension for key, dimension in DIMENSIONS.items()})
    assert {f"data.{key}" for key in DIMENSIONS} <= set(space.dimensions)
    check_experiment(space)
    assert len(load_images(space)) == 1


def test_a_record_of_earlier_versions_is_read() -> None:
    for written, read in ((True, "random"), (False, "none")):
        tree = space_of(data__crop=written).as_tree()
        assert tree["data"]["crop"] == read
        tree["data"] = {key: value for key, value in tree["data"].items() if key not in DIMENSIONS}
        tree["data"] |= {"crop": written, "flip": False}
        assert parse_experiment(tree).as_tree() == space_of(data__crop=written).as_tree()


def test_a_dimension_of_earlier_versions_is_searched() -> None:
    space = space_of(data__crop={"choice": [True, False]})
    crops = [space.trial_config(point).data.crop for point in space.boundary_points()]
    assert set(crops) == {"random", "none"}
    assert parse_experiment(space.as_tree()).dimensions == space.dimensions
