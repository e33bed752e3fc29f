"""How trials share cards that Ray only believes in, and what becomes of one whose process is killed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import give
from tests.end_to_end.packing import AT_ONCE, NUM_TRIALS
from tests.tuner.tiny import events_in

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packing")
    run = give("tests.end_to_end.packing", str(folder), folder=Path(__file__).parents[2])
    assert run.code == 0, run.out + run.err
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "seen.json").read_text())


def test_a_quarter_of_two_cards_is_eight_trials_at_once_and_no_more(seen: dict[str, Any]) -> None:
    assert seen["concurrency"] == AT_ONCE
    assert seen["most"] == AT_ONCE
    assert seen["card_left"] == 0
    assert seen["note"] == ""


def test_each_trial_sees_one_card_and_the_cards_share_them_evenly(seen: dict[str, Any]) -> None:
    assert len(seen["cards"]) == NUM_TRIALS
    assert set(seen["cards"].values()) == {"0", "1"}


def test_a_trial_whose_process_was_killed_is_run_again(seen: dict[str, Any], folder: Path) -> None:
    assert seen["killed"]
    events = events_in(folder / "journal.jsonl")
    assert [e["state"] for e in events if e["event"] == "trial_finished"] == ["complete"] * NUM_TRIALS
    folds = Counter((e["trial"], e["result"]["fold"]) for e in events if e["event"] == "fold_finished")
    assert folds == {(number, k): 1 for number in range(NUM_TRIALS) for k in (1, 2)}
