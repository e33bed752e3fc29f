"""How trials share cards that Ray only believes in: packed, measured, grown; and one trial whose folds are trained at
once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.cards import (
    AT_ONCE,
    ENOUGH,
    GROWN_TRIALS,
    KILLED_JOB,
    MEASURED_SHARE,
    NUM_JOBS,
    PACKED_TRIALS,
    STRANDED_TRIALS,
)
from tests.end_to_end.commands import run_command
from tests.end_to_end.forked import ROOT
from tests.end_to_end.records import Event, events_of, fold_numbers, shares_grown, trials_of
from tests.end_to_end.space import write_space

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Searches:
    """The folder with a run directory for each of the searches of `cards.py`."""

    folder: Path

    def events(self, search: str) -> list[Event]:
        return events_of(self.folder / search)


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Searches:
    folder = tmp_path_factory.mktemp("cards")
    space = write_space(folder, photos)
    workers = {"PYTHONPATH": str(ROOT)}  # which import the stand-ins from the tests
    run = run_command("tests.end_to_end.cards", str(folder), str(space), folder=folder, environment=workers)
    assert run.code == 0, run.out + run.err
    return Searches(folder)


@pytest.fixture(scope="module")
def gate(searches: Searches) -> dict[str, Any]:
    """What the gate of `packing` saw."""
    return json.loads((searches.folder / "packing" / "gate.json").read_text())


@pytest.fixture(scope="module")
def seen(searches: Searches) -> list[dict[str, Any]]:
    """What each process of `growth` saw."""
    return [json.loads(line) for line in (searches.folder / "growth" / "seen.jsonl").read_text().splitlines()]


def is_complete(events: list[Event], num_trials: int) -> bool:
    """Whether so many trials are complete, with no fold trained twice."""
    states = [trial.state for trial in trials_of(events).values()]
    folds = [(number, fold) for number in range(num_trials) for fold in (1, 2)]
    return states == ["complete"] * num_trials and sorted(fold_numbers(events)) == folds


class TestPacking:
    def test_half_of_two_cards_is_four_trials_at_once_and_no_more(self, gate: dict[str, Any]) -> None:
        assert gate["concurrency"] == AT_ONCE
        assert gate["most"] == AT_ONCE
        assert gate["card_left"] == 0
        assert gate["note"] == ""

    def test_each_trial_sees_one_card_and_the_cards_share_them_evenly(self, gate: dict[str, Any]) -> None:
        assert len(gate["cards"]) == PACKED_TRIALS
        assert set(gate["cards"].values()) == {"0", "1"}

    def test_a_trial_whose_process_was_killed_is_run_again(self, gate: dict[str, Any], searches: Searches) -> None:
        assert gate["killed"]
        assert is_complete(searches.events("packing"), PACKED_TRIALS)


class TestGrowth:
    def test_one_probe_has_a_whole_card_and_a_process_to_itself(self, seen: list[dict[str, Any]]) -> None:
        (probe,) = (event for event in seen if "probed" in event)
        assert (probe["probed"], probe["given"]) == (1, 1)
        assert probe["cards"] in ("0", "1")
        assert [event for event in seen if event["pid"] == probe["pid"]] == [probe]

    def test_what_each_command_says_of_its_share(self, seen: list[dict[str, Any]]) -> None:
        assert [event["printed"] for event in seen if "printed" in event] == [
            "resources.gpus auto: a step needs 3.1 GiB of 16.0 GiB; 0.25, 4 trials on each GPU",
            "resources.gpus auto: as measured before; 0.5, 2 trials on each GPU",
        ]

    def test_the_share_grows_once_and_no_trial_is_lost(self, searches: Searches) -> None:
        assert shares_grown(searches.events("growth")) == [ENOUGH]
        assert is_complete(searches.events("growth"), GROWN_TRIALS)

    def test_a_larger_share_is_one_of_another_process(self, seen: list[dict[str, Any]]) -> None:
        steps = [event for event in seen if "trial" in event]
        assert {(event["gpus"], event["given"]) for event in steps} == {
            (MEASURED_SHARE, MEASURED_SHARE),
            (ENOUGH, ENOUGH),
        }
        by_share = {gpus: {e["pid"] for e in steps if e["gpus"] == gpus} for gpus in (MEASURED_SHARE, ENOUGH)}
        assert not by_share[MEASURED_SHARE] & by_share[ENOUGH]


def test_trials_that_wait_for_a_kind_that_is_gone_are_run_on_another(searches: Searches) -> None:
    assert is_complete(searches.events("stranded"), STRANDED_TRIALS)


class TestJobs:
    """Those of retrainings, baselines and comparisons."""

    @pytest.fixture
    def jobs(self, searches: Searches) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (searches.folder / "jobs" / "seen.jsonl").read_text().splitlines()]

    def test_all_end_also_the_one_whose_process_was_killed(self, jobs: list[dict[str, Any]]) -> None:
        assert sorted(event["ended"] for event in jobs if "ended" in event) == list(range(NUM_JOBS))
        assert [event.get("job") for event in jobs].count(KILLED_JOB) == 2

    def test_processes_take_turns_and_stay_on_their_card(self, jobs: list[dict[str, Any]]) -> None:
        started = [event for event in jobs if "job" in event]
        pids = {event["pid"] for event in started}
        assert len(pids) <= AT_ONCE + 1 < NUM_JOBS
        assert all(len({event["cards"] for event in started if event["pid"] == pid}) == 1 for pid in pids)
        assert {event["given"] for event in started} == {0.5}

    def test_the_cards_are_given_back(self, jobs: list[dict[str, Any]]) -> None:
        assert jobs[-1]["free"] == 2


def test_a_trial_trains_its_folds_at_once_to_the_same_scores(searches: Searches) -> None:
    workers = {path.name.split("-")[2] for path in (searches.folder / "together" / "ray").glob("*/0000-fold-*")}
    assert workers == {"1", "2"}
    together, alone = (trials_of(searches.events(search))[0] for search in ("together", "alone"))
    assert len(alone.folds) == 2
    assert together == alone
