"""A share of a card that is auto: measured in a process of its own, grown where it was too little, and remembered."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Run, give
from tests.end_to_end.growth import ENOUGH, NUM_TRIALS
from tests.tuner.tiny import events_in

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("growth")
    run = give("tests.end_to_end.growth", str(folder), folder=Path(__file__).parents[2])
    assert run.code == 0, run.out + run.err
    return Run(folder, run.code, run.out, run.err)


@pytest.fixture(scope="module")
def said(run: Run) -> list[dict[str, Any]]:
    return [event for file in (run.folder / "said").iterdir() for event in events_in(file)]


@pytest.fixture(scope="module")
def events(run: Run) -> list[dict[str, Any]]:
    return events_in(run.folder / "journal.jsonl")


def test_one_probe_has_a_whole_card_and_a_process_to_itself(said: list[dict[str, Any]]) -> None:
    (probe,) = (event for event in said if "probed" in event)
    assert (probe["probed"], probe["given"], probe["cards"]) == (1, 1, "0")
    assert [event for event in said if event["pid"] == probe["pid"]] == [probe]


def test_what_each_command_says_of_its_share(run: Run) -> None:
    assert run.out.splitlines() == [
        "resources.gpus auto: a step needs 3.1 GiB of 16.0 GiB; 0.25, 4 trials a card",
        "resources.gpus auto: as found before; 0.5, 2 trials a card",
    ]


def test_the_share_grows_once_and_no_trial_is_lost(events: list[dict[str, Any]]) -> None:
    assert [e["gpus"] for e in events if e["event"] == "share_grown"] == [ENOUGH]
    assert [e["state"] for e in events if e["event"] == "trial_finished"] == ["complete"] * NUM_TRIALS
    folds = Counter((e["trial"], e["result"]["fold"]) for e in events if e["event"] == "fold_finished")
    assert folds == {(number, k): 1 for number in range(NUM_TRIALS) for k in (1, 2)}


def test_a_larger_share_is_one_of_another_process(said: list[dict[str, Any]]) -> None:
    steps = [event for event in said if "trial" in event]
    assert {(event["gpus"], event["given"]) for event in steps} == {(0.25, 0.25), (ENOUGH, ENOUGH)}
    by_share = {gpus: {e["pid"] for e in steps if e["gpus"] == gpus} for gpus in (0.25, ENOUGH)}
    assert not by_share[0.25] & by_share[ENOUGH]
