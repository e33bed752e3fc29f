from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.tiny import CPU
from trainables.step_values import MAX_STEPS, Draw, UploadedValues, ValueTable


def mask(step: int) -> Any:
    return np.arange(5) < step


def partner(step: int) -> Any:
    return np.roll(np.arange(3), step)


DRAWS: list[Draw] = [mask, partner, lambda step: step / 2]


def table_of(draws: list[Draw]) -> tuple[ValueTable, list[Tensor]]:
    uploaded = UploadedValues(1, CPU)
    for draw in draws:
        uploaded.tensor(draw)
    table = ValueTable(uploaded.kinds, CPU)
    return table, [table.tensor(draw) for draw in draws]


def test_each_step_has_its_own_row() -> None:
    table, places = table_of(DRAWS)
    for step in range(1, 3 * MAX_STEPS):
        table.seek(step, range(step + 1, 1000))
        table.take_next_row()
        expected = [torch.from_numpy(np.asarray(draw(step))) for draw in DRAWS]
        assert all(torch.equal(mine, yours) for mine, yours in zip(places, expected, strict=True))


def test_rows_are_drawn_many_steps_at_once() -> None:
    drawn: list[int] = []

    def spy(step: int) -> float:
        drawn.append(step)
        return float(step)

    table, _ = table_of([spy])
    drawn.clear()
    table.seek(4, range(5, 1000))
    assert drawn == list(range(4, 4 + MAX_STEPS))
    for step in range(5, 4 + MAX_STEPS):
        table.seek(step, range(step + 1, 1000))
    assert len(drawn) == MAX_STEPS


@pytest.mark.parametrize("steps", [[1, 2, 9, 10, 3], [5, 5, 5]])
def test_steps_may_come_in_any_order(steps: list[int]) -> None:
    table, (place,) = table_of([float])
    for step in steps:
        table.seek(step, range(step + 1, 20))
        table.take_next_row()
        assert place.item() == step


def test_places_do_not_move() -> None:
    table, places = table_of(DRAWS)
    before = [place.data_ptr() for place in places]
    for step in (1, 2, 50):
        table.seek(step, [])
        table.take_next_row()
    assert [place.data_ptr() for place in places] == before


def test_large_values_are_drawn_a_few_steps_at_once() -> None:
    drawn: list[int] = []

    def large(step: int) -> Any:
        drawn.append(step)
        return np.full(1 << 18, step, np.int64)

    table, _ = table_of([large])
    drawn.clear()
    table.seek(1, range(2, 1000))
    assert drawn == [1, 2]


def test_more_values_than_before_are_refused() -> None:
    table, _ = table_of(DRAWS)
    with pytest.raises(RuntimeError, match="more values"):
        table.tensor(float)


def test_values_of_another_shape_are_refused() -> None:
    table, _ = table_of([lambda step: np.zeros(step)])
    table.seek(1, [])
    with pytest.raises(RuntimeError, match="a value of step 2 has another shape"):
        table.seek(2, [])
