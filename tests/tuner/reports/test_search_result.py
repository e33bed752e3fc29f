"""The result of a search as an object, as JSON and as lines."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.reports.searches import alternatives, write_search
from tests.tuner.tiny import baseline_events, history_of, record, space_of, with_losses
from trainables.results import EnsembleResult, RetrainResult
from tuner.experiment.objective import Objective
from tuner.record.data_findings import DataFindings
from tuner.record.directory import RunDirectory
from tuner.record.events import BaselineFailed, DataExamined, EnsembleTested, ModelRegistered, RetrainingFinished
from tuner.record.history import SearchHistory
from tuner.record.scores import RungScore
from tuner.reports.search_result import SearchResult, closing_lines, search_result_of

PARAMS = {"method.gamma_fe": 0.02, "method.alpha": 0.3}
KEYS = [
    "name",
    "directory",
    "tracking_uri",
    "best_trial",
    "best_params",
    "best_config",
    "val_top1",
    "fold_scores",
    "objective",
    "val_score",
    "val_metrics",
    "kept_share",
    "test_scores",
    "test_top1_mean",
    "test_top1_sd",
    "ensemble",
    "metrics",
    "baselines",
    "winner",
    "trials",
    "why",
    "folds_trained",
    "folds_planned",
    "model_uri",
    "model_seed",
    "model_test_top1",
    "data_notes",
    "report",
    "seconds",
]
"""The keys of `--json`, a contract with other programs."""


def history(*test_scores: float, model_uri: str | None = None) -> SearchHistory:
    history = history_of(
        record(0, [0.4, 0.6], params=PARAMS),
        record(1, [0.6, 0.7], params=PARAMS),
        record(2, [0.9], "failed", params=PARAMS),
    )
    history.trials[2].reason = "fold 2 diverged"
    for seed, score in enumerate(test_scores):
        history.apply(RetrainingFinished(trial=1, result=RetrainResult(seed, score, 1.0, [], {})))
    if model_uri is not None:
        history.apply(ModelRegistered(trial=1, uri=model_uri))
    return history


def with_baselines(history: SearchHistory, probe: float = 0.6) -> SearchHistory:
    """The history with two complete baselines, retrained; `probe` is what the linear probe scores on each fold."""
    events = [
        *baseline_events("linear_probe", [probe, probe], [0.4]),
        *baseline_events("fine_tuning", [0.5, 0.5], [0.4, 0.6]),
    ]
    for event in events:
        history.apply(event)
    return history


def result_of(history: SearchHistory, why: str = "") -> SearchResult:
    return search_result_of(space_of(), RunDirectory(Path("/runs/tiny/now")), history, "sqlite:////my db", 75.0, why)


def test_reads_everything_off_the_history(tmp_path: Path) -> None:
    found = result_of(history(0.5, 0.7, model_uri="models:/tiny@champion"))
    assert (found.best_trial, found.val_top1) == ("trial-0001", pytest.approx(0.65))
    assert found.fold_scores == [0.6, 0.7]
    assert found.test_scores == {"0": 0.5, "1": 0.7}
    assert (found.test_top1_mean, found.test_top1_sd) == pytest.approx((0.6, 0.1414), abs=1e-4)
    assert found.trial_counts == {"running": 0, "complete": 2, "pruned": 0, "failed": 1}
    assert found.best_params == {"gamma_fe": 0.02, "alpha": 0.3}
    assert found.best_config["method"]["alpha"] == 0.3
    assert found.model_uri == "models:/tiny@champion"
    file = tmp_path / "new" / "result.json"
    found.write(file)
    assert list(json.loads(file.read_text())) == KEYS
    assert SearchResult.model_validate_json(file.read_bytes()) == found


def test_what_makes_scores_optimistic_is_said_below_them() -> None:
    found = history(0.5)
    found.apply(DataExamined(findings=DataFindings(num_validated=100, num_with_twin=31)))
    note = "31 % of validation images have a near twin in training: scores are optimistic; see data.group_by"
    assert result_of(found).data_notes == (note,)
    assert f"  data           {note}" in list(closing_lines(result_of(found), found))


def test_test_scores_of_an_earlier_best_are_not_the_bests() -> None:
    extended = history(0.5, 0.7, model_uri="models:/tiny@champion")
    extended.trials[3] = record(3, [0.8, 0.8], params=PARAMS)
    found = result_of(extended)
    assert found.best_trial == "trial-0003"
    assert (found.test_scores, found.test_top1_mean, found.model_uri) == ({}, None, None)


def test_the_end_for_a_person() -> None:
    told = history(0.5, 0.7, model_uri="models:/tiny@champion")
    lines = list(closing_lines(result_of(told), told))
    text = "\n".join(lines)
    assert lines[0] == "tiny: 2 complete, 1 failed trials in 1:15"
    assert "trial-0001: gamma_fe=0.02 alpha=0.3" in text
    assert "top-1 0.6500 over 2 folds (0.6000 0.7000)" in text
    assert "top-1 0.6000 ± 0.1414 (2 seeds, " in text
    assert "python -m tuner.predict --model models:/tiny@champion" in text
    assert "python -m tuner.ui --tracking-uri 'sqlite:////my db'" in text
    assert "trial-0002: fold 2 diverged" in text


@pytest.mark.parametrize(
    ("seed", "which"), [(0, "the network of seed 0: test top-1 0.5000"), (None, "the ensemble: test top-1 0.5000")]
)
def test_the_end_says_which_network_is_the_model_and_what_that_one_scored(seed: int | None, which: str) -> None:
    told = history(0.5, 0.7)
    told.apply(ModelRegistered(trial=1, uri="models:/tiny/3", seed=seed, test_top1=0.5))
    found = result_of(told)
    assert (found.model_uri, found.model_seed, found.model_test_top1) == ("models:/tiny/3", seed, 0.5)
    assert f"  model          models:/tiny/3, {which}" in list(closing_lines(found, told))


def test_the_end_says_what_the_ensemble_gains() -> None:
    told = history(0.5, 0.7)
    told.apply(EnsembleTested(trial=1, result=EnsembleResult("weights", [0, 1], 0.8, 1.0)))
    found = result_of(told)
    assert found.ensemble is not None
    assert (found.ensemble.num_networks, found.ensemble.test_top1) == (2, 0.8)
    line = (
        "  ensemble       top-1 0.8000 with the mean weights of 2 networks: +20.0 points (−107.1 to +147.1, 2 networks)"
    )
    assert f"{line} over one of them; it is the model" in closing_lines(found, told)


def test_an_ensemble_of_one_is_not_worth_a_word() -> None:
    told = history(0.5)
    told.apply(EnsembleTested(trial=1, result=EnsembleResult("weights", [0], 0.5, 1.0)))
    assert result_of(told).ensemble is None


def test_the_best_stands_beside_the_baselines(tmp_path: Path) -> None:
    told = with_baselines(history(0.5, 0.7))
    found = result_of(told)
    assert (found.winner, list(found.baselines)) == ("trial-0001", ["linear_probe", "fine_tuning"])
    probe, plain = found.baselines.values()
    assert (probe.val_top1, probe.fold_scores, probe.test_scores) == (pytest.approx(0.6), [0.6, 0.6], {"0": 0.4})
    assert probe.difference_val is not None
    assert (probe.difference_val.mean, probe.difference_val.num_pairs) == (pytest.approx(0.05), 2)
    assert probe.difference_test is not None
    assert (probe.difference_test.mean, probe.difference_test.num_pairs) == (pytest.approx(0.2), 2)
    assert plain.difference_test is not None
    assert plain.difference_test.mean == pytest.approx(0.1)
    assert (plain.test_top1_mean, plain.test_top1_sd) == pytest.approx((0.5, 0.1414), abs=1e-4)
    assert plain.config["method.name"] == "l2"
    found.write(tmp_path / "result.json")
    assert SearchResult.model_validate_json((tmp_path / "result.json").read_bytes()) == found


def test_the_end_says_how_the_best_stands_to_each_baseline() -> None:
    told = with_baselines(history(0.5, 0.7))
    told.apply(BaselineFailed(baseline="fine_tuning", reason="fold 1 diverged"))
    lines = list(closing_lines(result_of(told), told))
    start = next(i for i, line in enumerate(lines) if line.startswith("  validation"))
    assert lines[start + 1 : start + 6] == [
        "  linear probe   top-1 0.6000: best is +5.0 points (−105.0 to +115.0, 2 folds)",
        "  fine-tuning    no score: fold 1 diverged",
        "  test           top-1 0.6000 ± 0.1414 (2 seeds, full training split)",
        "    linear probe top-1 0.4000: best is +20.0 points (−107.1 to +147.1, 2 seeds)",
        "    fine-tuning  top-1 0.5000 ± 0.1414: best is +10.0 points (2 seeds, no interval: the same on each)",
    ]


def test_where_a_baseline_is_better_it_is_the_winner_and_that_is_said() -> None:
    told = with_baselines(history(0.5, 0.7), probe=0.9)
    told.apply(ModelRegistered(baseline="linear_probe", uri="models:/tiny@champion"))
    found = result_of(told)
    assert (found.winner, found.best_trial) == ("linear_probe", "trial-0001")
    assert (found.model_uri, found.test_scores) == ("models:/tiny@champion", {"0": 0.5, "1": 0.7})
    lines = list(closing_lines(found, told))
    assert (
        "  winner         the linear probe: no trial has a better validation score, so its model is the result" in lines
    )
    assert any(line.startswith("  linear probe   top-1 0.9000: best is −25.0 points") for line in lines)


def test_a_baseline_is_the_result_where_no_trial_is() -> None:
    told = with_baselines(history_of(record(0, [0.5], "failed")))
    found = result_of(told)
    assert (found.winner, found.best_trial) == ("linear_probe", None)
    assert found.baselines["linear_probe"].difference_val is None
    lines = list(closing_lines(found, told))
    assert "  linear probe   top-1 0.6000" in lines
    assert "  test           (full training split)" in lines
    assert "    linear probe top-1 0.4000" in lines


def test_says_why_it_ended_and_what_racing_saved() -> None:
    stopped = [record(3, [0.1], "pruned", params=PARAMS), record(4, [], "pruned", params=PARAMS)]
    stopped[1].rungs = [RungScore(fold=1, step=1, share=1 / 3, val_top1=0.1)]
    told = history_of(*history().trials.values(), *stopped)
    found = result_of(told, "search.timeout_s = 75 is spent")
    assert (found.why, found.folds_trained, found.folds_planned) == ("search.timeout_s = 75 is spent", 5.33, 8)
    lines = list(closing_lines(found, told))
    assert lines[0].endswith("trials in 1:15 (search.timeout_s = 75 is spent)")
    assert "  racing         5.33 of 8 folds trained: 2 trials were stopped early" in lines


def test_without_racing_nothing_is_said_of_it() -> None:
    told = history()
    assert not [line for line in closing_lines(result_of(told), told) if "racing" in line]


def test_one_retraining_has_no_spread() -> None:
    told = history(0.5)
    (line,) = (line for line in closing_lines(result_of(told), told) if line.startswith("  test"))
    assert "±" not in line
    assert "(1 seed, " in line


def test_without_a_whole_trial_there_is_no_best() -> None:
    told = history_of(record(0, [0.5], "failed"))
    found = result_of(told)
    assert (found.best_trial, found.val_top1, found.best_config) == (None, None, {})
    assert any("there is no best configuration" in line for line in closing_lines(found, told))


class TestTrials:
    def result(self, directory: RunDirectory) -> SearchResult:
        return SearchResult(name="tiny", directory=str(directory), tracking_uri="")

    def test_have_a_row_each(self, tmp_path: Path) -> None:
        trials = self.result(write_search(tmp_path / "run")).trials()
        expected = ["number", "state", "val_top1", "gamma_fe", "alpha", "fold_1", "fold_2", "duration_s", "reason"]
        assert list(trials.columns) == expected
        assert list(trials["state"]) == ["complete", "complete", "pruned", "failed"]
        assert list(trials["val_top1"].dropna()) == pytest.approx([0.55, 0.85])
        assert list(trials["alpha"]) == [0.1, 0.12, 0.14, 0.16]
        assert (trials["fold_1"][2], trials["duration_s"][2]) == (0.2, 3.0)
        assert math.isnan(trials["fold_2"][2])
        assert trials["reason"][3] == "fold 1 diverged: feature is not finite at step 2"

    def test_of_a_search_that_has_none_are_an_empty_table(self, tmp_path: Path) -> None:
        trials = self.result(write_search(tmp_path / "run", [])).trials()
        assert len(trials) == 0
        assert "gamma_fe" in trials.columns

    def test_hold_no_credentials(self, tmp_path: Path) -> None:
        failed = ("failed", (), "lost http://robot:hunter2@host")
        trials = self.result(write_search(tmp_path / "run", [failed])).trials()
        assert list(trials["reason"]) == ["lost http://host"]


def test_a_result_is_read_without_torch(tmp_path: Path) -> None:
    directory, file = write_search(tmp_path / "run"), tmp_path / "result.json"
    SearchResult(name="tiny", directory=str(directory), tracking_uri="").write(file)
    code = f"""
import sys
from pathlib import Path
from tuner.reports.search_result import SearchResult

assert len(SearchResult.model_validate_json(Path({str(file)!r}).read_bytes()).trials()) == 4
assert not {{"torch", "mlflow", "ray", "optuna", "plotly"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_trials_of_alternatives_have_a_column_a_dimension(tmp_path: Path) -> None:
    space, points, trials = alternatives(12)
    directory = write_search(tmp_path / "run", trials, space, points=points)
    history = SearchHistory.read(directory.journal)
    result = search_result_of(space, directory, history, "sqlite:///x.db", 1.0)
    table = result.trials()
    assert list(table.columns[3:7]) == ["method", "method.mixup.alpha", "gamma_fe", "method.smile.alpha"]
    assert list(table["gamma_fe"].notna()) == [point["method"] == "smile" for point in points]
    best = points[int(str(result.best_trial)[-4:])]
    assert result.best_params["method"] == best["method"]
    assert result.best_config["method"]["name"] == best["method"]
    assert f"method={best['method']}" in "\n".join(closing_lines(result, history))


def test_another_objective_is_named_with_its_own_values() -> None:
    told = history_of(*(with_losses(record(n, [0.4, 0.6], params=PARAMS), [0.5 - n / 8, 0.75]) for n in range(2)))
    for event in baseline_events("linear_probe", [0.6, 0.6]):
        told.apply(event)
    probe = told.baselines["linear_probe"]
    probe.objective = Objective("log_loss")
    probe.results = {k: replace(each, metrics={"log_loss": 1.0 + k / 8}) for k, each in probe.results.items()}
    space = space_of(search__objective="log_loss")
    found = search_result_of(space, RunDirectory(Path("/runs/tiny/now")), told, "sqlite:////db", 75.0)
    assert (found.best_trial, found.objective, found.val_score) == ("trial-0001", "log_loss", 0.5625)
    assert (found.fold_scores, found.val_top1) == ([0.375, 0.75], 0.5)
    assert found.val_metrics == {"top1": 0.5, "log_loss": 0.5625}
    lines = "\n".join(closing_lines(found, told))
    assert "  validation     log loss 0.5625 over 2 folds (0.3750 0.7500), top-1 0.5000" in lines
    assert "  linear probe   log loss 1.1875: best is −0.6250 (−3." in lines
