from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.quality_figures import best_peer, difference, figures_of, page, score_lines
from benchmarks.quality_runs import OURS, THIRD, Run


def runs_of(name: str, *correct: str, seconds: float = 600.0, folder: str = "my photos") -> list[Run]:
    """A run for each seed from 0."""
    return [
        Run(folder, name, seed, 10.0, 128, "a/network", "abc", "", seconds, "4 epochs", marks)
        for seed, marks in enumerate(correct)
    ]


def test_differences_are_paired_by_seed_and_by_photograph() -> None:
    ours, theirs = runs_of(OURS, "1111", "1110", "1100"), runs_of("fastai", "0011", "0110", "1000")
    found = difference(ours, list(reversed(theirs)))
    # by seed 50, 25, 25 points; by photograph 2/3, 2/3, 0, 0 of the seeds
    assert found.points == pytest.approx(100 / 3)
    assert found.over_seeds == pytest.approx(4.302652729911275 * 14.433756729740644 / 3**0.5)
    assert found.over_photographs == pytest.approx(1.96 * 38.490017945975055 / 2)


def test_a_single_seed_has_no_interval_over_seeds() -> None:
    found = difference(runs_of(OURS, "1111"), runs_of("fastai", "1100"))
    assert (found.points, found.over_seeds) == (50.0, None)


def test_a_line_a_figure() -> None:
    runs = [
        *runs_of(OURS, "11111", "11110", seconds=690.0),
        *runs_of(THIRD, "11100", "11100", seconds=240.0),
        *runs_of("linear_probe", "11100", "11100", seconds=9.0),
        *runs_of("fastai", "11110", "11110"),
    ]
    assert [str(figure) for figure in figures_of(runs)] == [
        "quality-my_photos-ahead_of_linear_probe 30.000 4 ok",
        "quality-my_photos-ahead_of_fastai 10.000 3 ok",
        "quality-my_photos-in_a_third_ahead_of_best -20.000 0 short",
        "quality-my_photos-ours_time_over_minutes 1.150 1.15 ok",
        "quality-my_photos-ours_in_a_third_time_over_minutes 1.200 1.15 short",
    ]


def test_a_line_a_contestant() -> None:
    runs = [
        *runs_of(OURS, "11111", "11110"),
        *runs_of("linear_probe", "11100", "11100"),
        *runs_of("fastai", "11110", "11111"),
    ]
    ahead = "(95 %: -97.1 … +157.1 over seeds, -9.2 … +69.2 over photographs)"
    assert score_lines(runs)[:2] == [
        "quality-my_photos-ours 0.9000 ± 0.1414",
        f"quality-my_photos-linear_probe 0.6000 ± 0.0000, ours +30.0 points {ahead}",
    ]
    assert score_lines(runs[:1] + runs[2:3])[1].endswith("points (95 %: – over seeds, -8.0 … +88.0 over photographs)")


def test_a_failed_run_is_no_score() -> None:
    ours, fastai = runs_of(OURS, "1111", "1110"), runs_of("fastai", "1100", "1111")
    fastai[1] = replace(fastai[1], correct="", failed="exit code 3")
    probe = runs_of("linear_probe", "1000", "1000")
    runs = [*ours, *probe, *fastai]
    lines = [str(figure) for figure in figures_of(runs)]
    assert "quality-my_photos-ahead_of_fastai - 3 failed" in lines
    assert best_peer({OURS: ours, "linear_probe": probe, "fastai": fastai}) == "linear_probe"
    assert score_lines(runs)[-1] == "quality-my_photos-fastai 0.5000"
    assert "seed 1 failed: exit code 3" in page(runs, {}, [], "python -m benchmarks.quality")


def test_ours_that_failed_is_ahead_of_nobody() -> None:
    (ours,) = runs_of(OURS, "")
    runs = [replace(ours, failed="exit code 1"), *runs_of(THIRD, "11"), *runs_of("fastai", "01")]
    assert [figure.result for figure in figures_of(runs)] == ["failed", "ok", "failed", "short"]
    assert score_lines(runs)[0] == "quality-my_photos-ours failed"


def test_the_page_says_what_was_run_and_what_came_of_it() -> None:
    runs = [*runs_of(OURS, "1111", "1110"), *runs_of("fastai", "1100", "1100", seconds=612.0)]
    text = page(runs, {"template": "no such commit"}, ["a 1.000 2 ok"], "python -m benchmarks.quality --root photos")
    assert text.startswith("# Quality at equal wall-clock: my photos\n")
    assert "commit abc" in text
    assert "\n    python -m benchmarks.quality --root photos\n" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| fastai")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["fastai's fine_tune", "0.5000 ± 0.0000", "0.5000, 0.5000", "10.2", "+37.5"]
    assert "- fastai, seed 1: 4 epochs" in text
    assert "Skipped: this project's template at a72014d (no such commit)." in text
    assert text.endswith("\n    a 1.000 2 ok\n")
