from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainables.data.config import DataConfig
from trainables.data.datasets.registry import DATASETS, list_datasets, open_dataset
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


@pytest.mark.parametrize(
    ("dataset", "keys", "said"),
    [
        ("digits", {"file": "a.csv"}, r"none of the keys of other datasets \(file, .*\) with digits, got file=a.csv"),
        ("manifest", {"name": "me/zoo"}, r"\(name, config_name\) with manifest, got name=me/zoo"),
        ("hugging_face", {"file": "a.csv", "group_column": "x"}, "with hugging_face, got file=a.csv, group_column=x"),
    ],
)
def test_keys_belong_to_their_datasets(dataset: str, keys: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DataConfig.model_validate({"dataset": dataset, **keys})


def test_every_dataset_has_a_line_in_the_list() -> None:
    lines = list_datasets()
    assert lines.keys() == DATASETS.keys()
    assert lines["manifest"].startswith("Images of your own, listed in a table")
    assert "needs the extra `hub`" in lines["hugging_face"]
