from __future__ import annotations

import pytest

from trainables.data.config import DataConfig
from trainables.data.datasets.registry import DATASETS, open_dataset
from trainables.errors import BadInput, Problem


def test_an_unknown_dataset_gets_its_nearest_names() -> None:
    with pytest.raises(BadInput) as caught:
        open_dataset(DataConfig(dataset="imagefoldr"))
    got = "'imagefoldr' (did you mean 'imagefolder'?)"
    assert caught.value.problems == (Problem("dataset", f"one of {', '.join(DATASETS)}", got),)


def test_an_unknown_dataset_like_no_other() -> None:
    with pytest.raises(BadInput) as caught:
        open_dataset(DataConfig(dataset="zzz"))
    assert caught.value.problems[0].got == "'zzz'"
