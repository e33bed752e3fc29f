"""Warm start from searches of earlier versions, whose `crop` is a boolean and which have no other augmentations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import fold, space_of
from trainables.data.config import AUGMENTATION
from tuner.record.create import new_run
from tuner.record.events import FoldFinished, SearchStarted, TrialEnded, TrialStarted
from tuner.record.journal import open_search_journal
from tuner.scheduling.warm_start import collect_warm_start

CROPS = {"choice": [True, False]}
GAMMA_FE, ALPHA = 0.02, 0.3


def earlier_search(root: Path, crop: Any, params: dict[str, Any]) -> None:
    """The record of a search of an earlier version with one trial."""
    space = space_of(name="earlier", tracking__directory=str(root), data__crop=crop)
    tree = space.as_tree()
    tree["data"] = {key: value for key, value in tree["data"].items() if key not in AUGMENTATION}
    tree["data"] |= {"crop": crop, "flip": False}
    directory = new_run(space)
    journal = open_search_journal(directory)
    journal.append(SearchStarted(name="earlier", run=directory.run, space=tree, dimensions=space.dimension_words))
    point = {"method.gamma_fe": GAMMA_FE, "method.alpha": ALPHA, **params}
    journal.append(TrialStarted(trial=0, params=point, source="sampler"))
    for number in (1, 2):
        journal.append(FoldFinished(trial=0, result=fold(number, 0.5)))
    journal.append(TrialEnded(trial=0, state="complete"))
    journal.close()


@pytest.mark.parametrize(("written", "read"), [(True, "random"), (False, "none")])
def test_a_fixed_crop_is_compared_as_what_it_is_called_now(tmp_path: Path, written: bool, read: str) -> None:
    earlier_search(tmp_path, written, {})
    for crop, num_taken in ((read, 1), ("random_resized", 0)):
        later = space_of(tracking__directory=str(tmp_path), search__warm_start=["earlier"], data__crop=crop)
        assert len(collect_warm_start(later).trials) == num_taken


@pytest.mark.parametrize(
    ("choice", "taken"), [([True, False], False), (["random", "none"], "none"), (["random_resized", "none"], "none")]
)
def test_a_searched_crop_is_an_item_of_the_choice(tmp_path: Path, choice: list[Any], taken: Any) -> None:
    earlier_search(tmp_path, CROPS, {"data.crop": False})
    later = space_of(tracking__directory=str(tmp_path), search__warm_start=["earlier"], data__crop={"choice": choice})
    (trial,) = collect_warm_start(later).trials
    assert trial.params == {"data.crop": taken, "method.gamma_fe": GAMMA_FE, "method.alpha": ALPHA}
    assert type(trial.params["data.crop"]) is type(taken)


def test_a_searched_crop_that_is_no_item_is_outside(tmp_path: Path) -> None:
    earlier_search(tmp_path, CROPS, {"data.crop": True})
    crop = {"choice": ["random_resized", "none"]}
    later = space_of(tracking__directory=str(tmp_path), search__warm_start=["earlier"], data__crop=crop)
    found = collect_warm_start(later)
    assert found.trials == ()
    assert "outside the range of crop" in found.notes[0]
