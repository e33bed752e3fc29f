"""What a search's predictions say: by model and split, a class, and on which examples it is wrong."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.tuner.reports.evaluated import CLASSES, NUM_TEST, NUM_TRAIN, images, predictions, write_evaluated
from trainables.metrics import MetricValue, log_loss, metrics_with_intervals, top1
from trainables.predictions import Predictions
from trainables.results import EnsembleResult
from tuner.record.events import EnsembleTested
from tuner.record.predictions import PredictionFiles
from tuner.reports import evaluation as evaluation_module
from tuner.reports.evaluation import (
    Evaluation,
    calibration_of,
    evaluations_of,
    model_evaluation,
)
from tuner.reports.evaluation_panel import _accuracy, confusion_plot, evaluation_panel, reliability_plot
from tuner.reports.mistakes import MAX_PICTURES, grouped, read_mistakes, write_mistakes
from tuner.reports.page import report_page
from tuner.reports.predictions_table import write_predictions
from tuner.reports.search_result import closing_lines
from tuner.reports.search_run import read_run


def evaluation_with(shares: list[list[float]], labels: list[int]) -> Evaluation:
    kept = Predictions(np.arange(len(labels)), np.array(labels), np.array(shares, dtype=np.float32))
    return Evaluation("trial-0001", "validation", "", kept)


def test_mistakes_are_the_surest_first() -> None:
    shares = [[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]
    assert evaluation_with(shares, [1, 0, 1, 0]).mistakes().tolist() == [1, 3, 0]


def test_accuracy_a_class() -> None:
    found = evaluation_with([[0.6, 0.4, 0], [0.1, 0.9, 0], [0.2, 0.8, 0]], [0, 0, 1]).class_accuracies()
    assert [(each.num_right, each.num) for each in found] == [(1, 2), (1, 1), (0, 0)]
    assert [_accuracy(each) for each in found] == ["0.50 (0.09 to 0.91, 2)", "1.00 (0.21 to 1.00, 1)", "–"]


def test_wrong_labels_are_found() -> None:
    """Of ninety examples that are predicted well, three, of which the networks are surest, have another label."""
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    shares = 0.05 + 0.03 * rng.random((90, 3)) + 0.8 * np.eye(3)[truth]
    shares[[7, 20, 55]] = 0.01 + 0.97 * np.eye(3)[truth[[7, 20, 55]]]
    labels = truth.copy()
    labels[[7, 20, 55]] = (truth[[7, 20, 55]] + 1) % 3
    evaluation = evaluation_with((shares / shares.sum(axis=1, keepdims=True)).tolist(), labels.tolist())
    assert sorted(evaluation.label_issues().tolist()) == [7, 20, 55]
    assert evaluation_with([[0.9, 0.1], [0.8, 0.2]], [0, 0]).label_issues().tolist() == [], "one class alone"


def test_models_and_splits_of_a_search(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    found = [
        (each.model, each.split, each.network, len(each.predictions)) for each in evaluations_of(directory, history)
    ]
    assert found == [
        ("trial-0001", "validation", "", NUM_TRAIN),
        ("linear_probe", "validation", "", NUM_TRAIN),
        ("trial-0001", "test", "seed 0", NUM_TEST),
        ("trial-0001", "test", "seed 1", NUM_TEST),
    ]


def test_the_model_is_the_ensemble_where_there_is_one(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    evaluation = model_evaluation(directory, history)
    assert evaluation is not None
    assert evaluation.test is not None
    assert (evaluation.validation.model, evaluation.test.network) == ("trial-0001", "seed 0")
    test = PredictionFiles(directory).test(1, 1)
    assert test is not None
    PredictionFiles(directory).add_test(1, None, test)
    history.apply(EnsembleTested(trial=1, result=EnsembleResult("weights", [0, 1], 0.5, 1.0)))
    evaluation = model_evaluation(directory, history)
    assert evaluation is not None
    assert evaluation.test is not None
    assert evaluation.test.network == "ensemble"


def test_without_predictions_there_is_no_evaluation(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    directory.examples.unlink()
    assert model_evaluation(directory, history) is None
    assert not write_predictions(directory, history)
    assert 'id="model"' not in report_page(read_run(directory))


def test_the_table_has_a_row_an_example_and_model(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    assert write_predictions(directory, history)
    table = pd.read_parquet(directory.predictions_table)
    assert len(table) == 2 * NUM_TRAIN + 2 * NUM_TEST
    assert list(table.columns) == [
        *("model", "split", "network", "example", "label", "predicted", "probability", "is_right"),
        *(f"probability/{name}" for name in CLASSES),
    ]
    first = table.iloc[4]
    assert (first["example"], first["label"]) == ("train/4[copy].png", "pear")
    of_model = table[(table["model"] == "trial-0001") & (table["split"] == "validation")]
    kept = PredictionFiles(directory).out_of_fold(1)
    assert kept is not None
    assert of_model["is_right"].mean() == top1(kept.probabilities, kept.labels)
    np.testing.assert_allclose(of_model[f"probability/{CLASSES[2]}"], kept.probabilities[:, 2])
    assert len(pd.read_csv(directory.predictions_csv)) == len(table)


@pytest.mark.parametrize("tested", [True, False])
def test_mistakes_are_kept_with_their_pictures(tmp_path: Path, tested: bool) -> None:
    directory, history = write_evaluated(tmp_path, tested)
    evaluation = model_evaluation(directory, history)
    assert evaluation is not None
    write_mistakes(directory, evaluation, "tiny", images(NUM_TRAIN), images(NUM_TEST) if tested else None)
    split = evaluation.test if tested else evaluation.validation
    assert split is not None
    mistakes = grouped(read_mistakes(directory))["mistake"]
    assert len(mistakes) == len(split.mistakes()) <= MAX_PICTURES
    surest, position = mistakes[0], int(split.mistakes()[0])
    assert surest.split == ("test" if tested else "validation")
    assert surest.probability == pytest.approx(float(split.predictions.probabilities[position].max()))
    picture = Image.open(io.BytesIO(base64.b64decode(surest.picture.partition(",")[2])))
    grey = np.asarray(picture).mean()
    assert abs(grey - 5 * split.predictions.index[position]) < 3, "the picture is that example's"
    page = directory.mistakes.read_text(encoding="utf-8")
    assert "<i>plum</i>" not in page
    assert surest.example in page


def test_a_torn_file_of_mistakes_costs_no_report(tmp_path: Path) -> None:
    directory, _ = write_evaluated(tmp_path)
    directory.mistakes_data.write_text("[{")
    assert read_mistakes(directory) == []
    assert 'id="mistakes"' in report_page(read_run(directory))


def test_the_report_has_the_models_panels(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    evaluation = model_evaluation(directory, history)
    assert evaluation is not None
    assert evaluation.test is not None
    write_mistakes(directory, evaluation, "tiny", images(NUM_TRAIN), images(NUM_TEST))
    page = report_page(read_run(directory))
    for text in ('id="model"', 'id="classes"', 'id="calibration"', "balanced accuracy", "data:image/jpeg;base64,"):
        assert text in page
    assert str(evaluation.test.metrics["top1"]) in page
    assert "<i>plum</i>" not in page
    assert "train/4[copy].png" in page or "test/" in page


def test_plots_are_of_the_predictions(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    evaluation = model_evaluation(directory, history)
    assert evaluation is not None
    panel = evaluation_panel(evaluation, {})
    heatmap = confusion_plot(panel).data[0]
    assert np.sum(heatmap.customdata) == NUM_TEST
    assert heatmap.y[2] == "&lt;i&gt;plum&lt;/i&gt;"
    assert {confusion_plot(panel).layout.xaxis.type, confusion_plot(panel).layout.yaxis.type} == {"category"}
    assert [trace.name for trace in reliability_plot(panel).data] == ["calibrated", "as it is", "with temperature"]
    assert len(panel.classes) == 3
    shares = [float(row.test.split(" ")[0]) for row in panel.classes]
    assert shares == sorted(shares), "the worst first"


def test_the_temperature_lowers_the_log_loss(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    evaluation = model_evaluation(directory, history)
    assert evaluation is not None
    calibration = calibration_of(evaluation.validation)
    kept = evaluation.validation.predictions
    assert calibration.before["log_loss"].value == pytest.approx(log_loss(kept.probabilities, kept.labels))
    assert calibration.after["log_loss"].value < calibration.before["log_loss"].value


def test_intervals_are_resampled_once_for_the_result_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(probabilities: Any, labels: Any) -> dict[str, MetricValue]:
        calls.append(len(labels))
        return metrics_with_intervals(probabilities, labels)

    monkeypatch.setattr(evaluation_module, "metrics_with_intervals", counted)
    monkeypatch.setattr(evaluation_module, "_INTERVALS", {})
    directory, history = write_evaluated(tmp_path)
    result = read_run(directory).result
    assert sorted(calls) == [NUM_TEST, NUM_TRAIN], "on test, and out of fold, where both models say the same"
    report_page(read_run(directory))
    list(closing_lines(read_run(directory).result, history))
    assert sorted(calls) == [NUM_TEST, NUM_TRAIN, NUM_TRAIN], "and with the fitted temperature"
    changed = predictions(np.arange(NUM_TEST), 7, wrong=0.9)
    PredictionFiles(directory).add_test(1, 0, changed)
    assert read_run(directory).result.metrics["trial-0001"]["test"] == metrics_with_intervals(
        changed.probabilities, changed.labels
    )
    assert result.metrics["trial-0001"]["test"] != read_run(directory).result.metrics["trial-0001"]["test"]


def test_the_result_has_every_metric_with_its_interval(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    result = read_run(directory).result
    assert result.metrics.keys() == {"trial-0001", "linear_probe"}
    assert result.metrics["trial-0001"].keys() == {"validation", "test"}
    found = result.metrics["trial-0001"]["test"]["top1"]
    assert found.low <= found.value <= found.high
    lines = [line for line in closing_lines(result, history) if line.startswith("  scores ")]
    assert lines[0].startswith(f"  scores         top-1 {found} on test: balanced accuracy ")
