from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import driver, search
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


def test_a_search_on_ray_is_measured_beside_ray_tune_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BLOCK", 10)
    monkeypatch.setattr(driver, "_course_on_ray", course_of)
    main(["--trials", "0", "--on-ray", "60", "--block", "30"])
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        "search on Ray, trials 0-30: 10.00 ms of driver CPU a trial, 102 MiB",
        "search on Ray, trials 30-60: 10.00 ms of driver CPU a trial, 105 MiB",
        "Ray Tune alone, trials 0-30: 5.00 ms of driver CPU a trial, 102 MiB",
        "Ray Tune alone, trials 30-60: 5.00 ms of driver CPU a trial, 105 MiB",
    ]
    assert said[4:] == [
        "driver_on_ray_last_over_first_block_cpu 1.000 1.5 ok",
        "driver_on_ray_memory_growth_mib 3.000 100 ok",
    ]


def course_of(num_trials: int, alone: bool) -> search.Course:
    cost_s = 0.005 if alone else 0.01
    spent_s = [cost_s * trial for trial in range(num_trials)]
    return search.Course(spent_s, spent_s, [100.0 + count for count in range(num_trials // 10)])


def test_every_trial_of_a_simulation_is_in_its_journal(tmp_path: Path) -> None:
    course = simulate(12, 3, 4, tmp_path)
    assert [len(part) for part in course] == [3, 3, 3]
    assert (tmp_path / "journal.jsonl").read_text().count('"trial_ended"') == 12


def test_proposals_come_closer_to_the_maximum_of_a_known_function() -> None:
    assert shortfall(0, ALL, num_trials=60) < shortfall(0, ALL, num_trials=10)
