from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import driver
from benchmarks.driver import ALL, main, shortfall, simulate
from benchmarks.figures import lines_in

pytestmark = pytest.mark.slow


def test_a_small_search_goes_through_and_ends_in_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--trials", "24", "--block", "8", "--places", "4", "--cards", "0"])
    said = capsys.readouterr().out
    assert said.count("ms of driver CPU and") == 3
    assert [line.split()[0] for line in lines_in(said)] == [
        "driver_last_over_first_block_cpu",
        "driver_memory_growth_mib",
    ]


def test_it_counts_what_the_cards_of_a_cluster_ask_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    course = driver.Course([0.01, 0.02, 0.02], [0.0, 0.01, 0.0], [100.0, 105.0, 110.0])
    monkeypatch.setattr(driver, "simulate", lambda *_: course)
    assert main(["--trials", "12", "--block", "4", "--cards", "1"]) == 1
    assert lines_in(capsys.readouterr().out) == [
        "driver_last_over_first_block_cpu 2.000 1.5 short",
        "driver_memory_growth_mib 10.000 100 ok",
        "driver_cards_kept_busy 2500.000 1000 ok",  # 300 s / 0.03 s / 4: the last four trials leave places free
    ]


def test_every_trial_of_a_simulation_is_in_its_journal(tmp_path: Path) -> None:
    course = simulate(12, 3, 4, tmp_path)
    assert [len(part) for part in course] == [3, 3, 3]
    assert (tmp_path / "journal.jsonl").read_text().count('"trial_ended"') == 12


def test_proposals_come_closer_to_the_maximum_of_a_known_function() -> None:
    assert shortfall(0, ALL, num_trials=60) < shortfall(0, ALL, num_trials=10)
