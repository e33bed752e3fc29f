from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tuner.comparisons import comparison_of
from trainables.data.images import LabelledImages
from trainables.results import RetrainFailed, RetrainResult
from trainables.trial import reseeded
from tuner.comparison import cell as cells
from tuner.comparison.cell import CellKey, CellScored, CellUnscored, MeasureSettings, train_cell
from tuner.resources.share import Capacity, Share

KEY = CellKey("SMILE", "15 %", 1)
ARM = comparison_of().arms[1]
CONFIG = ARM.space.trial_config({})
TRAIN, COLUMN, TEST = (
    LabelledImages.of(np.zeros((count, 8, 8, 3), dtype=np.uint8), np.arange(count), [str(k) for k in range(count)])
    for count in (4, 3, 2)
)


CPU = Share(1, 0, 1)


def cell(names: tuple[str, ...] = (), share: Share = CPU) -> CellScored | CellUnscored:
    return train_cell(KEY, CONFIG, MeasureSettings(names, CONFIG.data, 8), TRAIN, COLUMN, TEST, share)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def train_and_test(*arguments: Any) -> Any:
        calls.append(arguments)
        result = RetrainResult(KEY.seed, 0.75, 2.0, [1], {"target_label": [1.0]})
        return SimpleNamespace(result=result, network=SimpleNamespace())

    monkeypatch.setattr(cells, "train_and_test", train_and_test)
    return calls


def test_trains_with_the_seed_that_all_rows_share(trained: list[Any]) -> None:
    ended = cell()
    assert isinstance(ended, CellScored)
    assert trained == [(reseeded(CONFIG, 1), 1, TRAIN, TEST)]
    other = comparison_of().arms[0].space.trial_config({})
    assert reseeded(other, 1).seed == reseeded(CONFIG, 1).seed != reseeded(CONFIG, 0).seed


def test_the_journal_keeps_the_result_with_its_place_and_configuration(trained: list[Any]) -> None:
    ended = cell()
    assert isinstance(ended, CellScored)
    event = ended.event({"method.name": "smile"})
    assert (event.row, event.column, event.seed) == KEY
    assert (event.config, event.result, event.measures) == ({"method.name": "smile"}, ended.result, {})
    assert event.result == RetrainResult(1, 0.75, 2.0, [1], {"target_label": [1.0]})


def test_measures_are_of_the_columns_images_and_of_the_test(
    trained: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = {"count": lambda network, images, *_: {"number": float(len(images)), "undefined": float("nan")}}
    monkeypatch.setattr(cells, "MEASURES", counted)
    ended = cell(("count",))
    assert isinstance(ended, CellScored)
    assert ended.measures == {"number_train": 3.0, "number_test": 2.0}


class TestFullCard:
    @pytest.fixture(autouse=True)
    def full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def train_and_test(*arguments: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        monkeypatch.setattr(cells, "train_and_test", train_and_test)
        monkeypatch.setattr(cells, "prepare_process", lambda share: None)

    def test_is_the_callers_where_the_share_can_grow(self) -> None:
        with pytest.raises(torch.OutOfMemoryError):
            cell(share=Share(1, 0.5, 2, nodes=(Capacity(2, 1),)))

    @pytest.mark.parametrize("share", [Share(1, 1, 1, nodes=(Capacity(2, 1),)), Share(1, 0.5, 2)])
    def test_is_the_cells_end_where_it_cannot(self, share: Share) -> None:
        ended = cell(share=share)
        assert isinstance(ended, CellUnscored)
        assert ended.reason == "OutOfMemoryError: CUDA out of memory."


def test_one_that_diverges_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "train_and_test", lambda *_: RetrainFailed(1, "diverged: the gradient is not finite"))
    assert cell() == CellUnscored(KEY, "diverged: the gradient is not finite", diverged=True)


def test_a_broken_cuda_context_is_its_processs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """In which each further training would fail; a full GPU, also where CUDA itself says it, leaves it as it was."""
    message = "CUDA error: an illegal memory access was encountered"

    def fail(*_: object) -> None:
        raise torch.AcceleratorError(message)

    monkeypatch.setattr(cells, "train_and_test", fail)
    with pytest.raises(torch.AcceleratorError):
        cell()
    message = "CUDA error: out of memory"
    assert cell() == CellUnscored(KEY, "AcceleratorError: CUDA error: out of memory", diverged=False)


def test_whatever_is_raised_is_this_cells_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room\nat all")

    monkeypatch.setattr(cells, "train_and_test", fail)
    assert cell() == CellUnscored(KEY, "MemoryError: no room", diverged=False)
