from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tuner.tiny import history_of, record, space_of
from tuner.record.history import History
from tuner.reports.search_result import SearchResult, closing_lines, search_result_of

PARAMS = {"gamma_fe": 0.02, "alpha": 0.3}


def history(**test_scores: float) -> History:
    history = history_of(
        record(0, [0.4, 0.6], params=PARAMS),
        record(1, [0.6, 0.7], params=PARAMS),
        record(2, [0.9], "failed", params=PARAMS),
    )
    history.trials[2].reason = "fold 2 diverged"
    for seed, score in enumerate(test_scores.values()):
        history.retrained[seed] = {"event": "retrain_finished", "trial": 1, "seed": seed, "test_top1": score}
    return history


def outcome(history: History, model_uri: str | None = None) -> SearchResult:
    return search_result_of(space_of(), Path("/runs/tiny/now"), history, "sqlite:////my db", model_uri, 75.0)


def test_reads_everything_off_the_history(tmp_path: Path) -> None:
    found = outcome(history(first=0.5, second=0.7), "models:/tiny@champion")
    assert (found.best_trial, found.val_top1) == ("trial-0001", pytest.approx(0.65))
    assert found.fold_scores == [0.6, 0.7]
    assert found.test_scores == {"0": 0.5, "1": 0.7}
    assert (found.test_top1_mean, found.test_top1_sd) == pytest.approx((0.6, 0.1414), abs=1e-4)
    assert found.trials == {"running": 0, "complete": 2, "pruned": 0, "failed": 1}
    assert found.best_config["method"]["alpha"] == 0.3
    file = tmp_path / "new" / "outcome.json"
    found.write(file)
    assert SearchResult(**json.loads(file.read_text())) == found


def test_test_scores_of_an_earlier_best_are_not_the_bests() -> None:
    extended = history(first=0.5, second=0.7)
    extended.trials[3] = record(3, [0.8, 0.8], params=PARAMS)
    found = outcome(extended)
    assert found.best_trial == "trial-0003"
    assert (found.test_scores, found.test_top1_mean) == ({}, None)


def test_the_end_for_a_person() -> None:
    told = history(first=0.5, second=0.7)
    lines = list(closing_lines(outcome(told, "models:/tiny@champion"), told))
    text = "\n".join(lines)
    assert lines[0] == "tiny: 2 complete, 1 failed trials in 1:15"
    assert "trial-0001: gamma_fe=0.02 alpha=0.3" in text
    assert "top-1 0.6500 over 2 folds (0.6000 0.7000)" in text
    assert "top-1 0.6000 ± 0.1414 (2 seeds, " in text
    assert "python -m tuner.predict --model models:/tiny@champion" in text
    assert "python -m tuner.ui --tracking-uri 'sqlite:////my db'" in text
    assert "trial-0002: fold 2 diverged" in text


def test_says_why_it_ended_and_what_racing_saved() -> None:
    told = history()
    told.trials[3] = record(3, [0.1], "pruned", params=PARAMS)
    told.trials[4] = record(4, [], "pruned", params=PARAMS)
    told.trials[4].rungs = [{"fold": 1, "share": 1 / 3}]
    found = search_result_of(
        space_of(), Path("/runs"), told, "sqlite:///x", None, 75.0, "search.timeout_s = 75 is spent"
    )
    assert (found.why, found.folds_trained, found.folds_planned) == ("search.timeout_s = 75 is spent", 5.33, 8)
    lines = list(closing_lines(found, told))
    assert lines[0].endswith("trials in 1:15 (search.timeout_s = 75 is spent)")
    assert "  racing         5.33 of 8 folds trained: 2 trials were stopped early" in lines


def test_without_racing_nothing_is_said_of_it() -> None:
    told = history()
    assert not [line for line in closing_lines(outcome(told), told) if "racing" in line]


def test_one_retraining_has_no_spread() -> None:
    told = history(first=0.5)
    (line,) = (line for line in closing_lines(outcome(told), told) if line.startswith("  test"))
    assert "±" not in line
    assert "(1 seed, " in line


def test_without_a_whole_trial_there_is_no_best() -> None:
    told = history_of(record(0, [0.5], "failed"))
    found = outcome(told)
    assert (found.best_trial, found.val_top1, found.best_config) == (None, None, {})
    assert any("there is no best configuration" in line for line in closing_lines(found, told))
