from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import PositiveInt, ValidationError

from trainables.data.config import DataConfig
from trainables.frozen import Frozen
from trainables.training.config import TrainingConfig
from tuner.experiment.settings import SearchSettings


class Inner(Frozen):
    share: float | Literal["auto"] = 0.5


class Config(Frozen):
    count: PositiveInt = 1
    more: int | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    either: bool | int = 2
    flag: bool = False
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ({"count": True}, {"int_type"}),
        ({"more": False}, {"int_type"}),
        ({"pair": [True, 2]}, {"float_type"}),
        ({"inner": {"share": True}}, {"float_type", "literal_error"}),
    ],
)
def test_a_boolean_is_no_number(given: dict[str, Any], kinds: set[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        Config.model_validate(given)
    assert {error["type"] for error in refused.value.errors()} == kinds


def test_numbers_are_read_as_before_and_booleans_where_they_are_meant() -> None:
    config = Config.model_validate(
        {"count": "3", "more": 4.0, "pair": [1, 2.5], "either": True, "flag": True, "inner": {"share": 1}}
    )
    assert config.model_dump() == {
        "count": 3,
        "more": 4,
        "pair": (1.0, 2.5),
        "either": True,
        "flag": True,
        "inner": {"share": 1.0},
    }
    assert config.either is True
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (SearchSettings, "trials"),
        (SearchSettings, "concurrency"),
        (TrainingConfig, "learning_rate"),
        (TrainingConfig, "num_steps"),
    ],
)
def test_so_it_is_in_every_section(model: type[Frozen], key: str) -> None:
    with pytest.raises(ValidationError, match=r"valid (integer|number)"):
        model.model_validate({key: True})
    with pytest.raises(ValidationError, match="valid integer"):
        DataConfig.model_validate({"dataset": "digits", "size_px": True})
