"""The paper's subsets, drawn from labels that are as many in each class as the datasets have."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trainables.data.config import DataConfig
from trainables.data.datasets import registry as catalog
from trainables.data.datasets.listing import Dataset, Listing
from trainables.data.images import Ints
from trainables.data.loading import DataSummary, check_data, plan_splits
from trainables.seeding import rng_for

CLASS_SIZES = {
    "cub_200_2011": ([30] * 194 + [29] * 6, [29] * 194 + [28] * 6),
    "stanford_cars": ([24, 68] + [41] * 96 + [42] * 98, [41] * 191 + [42] * 5),
    "fgvc_aircraft": ([67] * 67 + [66] * 33, [34] * 33 + [33] * 67),
    "mit_indoor_67": ([80] * 67, [20] * 67),
    "food_101": ([750] * 101, [250] * 101),
}
"""Training and test images of each class; of Cars, the extremes and the sum are the dataset's."""


@pytest.fixture(autouse=True)
def labels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The datasets, without their images."""
    for dataset in CLASS_SIZES:
        monkeypatch.setitem(catalog.DATASETS, dataset, lambda config: labels_of(config.dataset))


def labels_of(dataset: str) -> Dataset:
    train, test = (listing(np.repeat(np.arange(len(sizes)), sizes)) for sizes in CLASS_SIZES[dataset])
    return Dataset(tuple(f"class {k}" for k in range(len(CLASS_SIZES[dataset][0]))), train, test)


def listing(labels: Ints) -> Listing:
    shuffled = rng_for(0, "labels").permutation(labels)
    return Listing(shuffled, [f"{i}" for i in range(len(labels))], lambda i: Image.new("RGB", (1, 1)))


def drawn(dataset: str, **fields: object) -> DataSummary:
    config = {"dataset": dataset, "sampling": "uniform", **fields}
    return check_data(DataConfig.model_validate(config), num_folds=3)


@pytest.mark.parametrize(
    ("dataset", "num_classes"), [("cub_200_2011", 50), ("stanford_cars", 49), ("fgvc_aircraft", 25)]
)
@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
def test_a_quarter_of_the_classes(dataset: str, num_classes: int, sampling: str) -> None:
    small, large = (drawn(dataset, class_fraction=0.25, train_images=count, sampling=sampling) for count in (400, 800))
    assert (small.num_train, large.num_train) == (400, 800)
    assert small.class_names == large.class_names
    assert len(small.class_names) == num_classes
    whole = labels_of(dataset)
    sizes = dict(zip(whole.class_names, CLASS_SIZES[dataset][1], strict=True))
    assert small.test_per_class == large.test_per_class == tuple(sizes[name] for name in small.class_names)


@pytest.mark.parametrize(
    ("dataset", "fraction", "num_train"),
    [
        ("cub_200_2011", 0.15, 900),
        ("cub_200_2011", 0.3, 1799),
        ("cub_200_2011", 1.0, 5994),
        ("stanford_cars", 0.15, 1222),
        ("stanford_cars", 1.0, 8144),
        ("fgvc_aircraft", 0.15, 1001),
        ("fgvc_aircraft", 1.0, 6667),
        ("mit_indoor_67", 0.3, 1609),
        ("mit_indoor_67", 0.5, 2681),
        ("mit_indoor_67", 1.0, 5360),
        ("food_101", 0.3, 22_726),
        ("food_101", 0.5, 37_876),
        ("food_101", 1.0, 75_750),
    ],
)
def test_rates_are_those_of_the_authors_code(dataset: str, fraction: float, num_train: int) -> None:
    summary = drawn(dataset, train_fraction=fraction)
    assert summary.num_train == num_train
    assert len(summary.class_names) == len(CLASS_SIZES[dataset][0])
    assert summary.num_test == sum(CLASS_SIZES[dataset][1])


def test_at_15_percent_a_class_or_two_of_cub_may_have_no_image() -> None:
    missed = [
        drawn("cub_200_2011", train_fraction=0.15, sampling_seed=seed).train_per_class.count(0) for seed in range(20)
    ]
    assert 0.5 < np.mean(missed) < 3
    assert 0 not in drawn("cub_200_2011", train_fraction=0.15, sampling="stratified").train_per_class


def test_table_6_measures_on_images_that_are_part_of_all() -> None:
    config = DataConfig(dataset="cub_200_2011", sampling="uniform", train_fraction=0.3)
    part, whole = (plan_splits(config.model_copy(update={"train_fraction": share})) for share in (0.3, 1.0))
    assert set(part.train.names) < set(whole.train.names)
