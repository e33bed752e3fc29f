"""Searches side by side, and the differences of their models."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuner.reports.evaluated import CLASSES, NUM_TEST, predictions, write_evaluated
from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import fold, search_started, space_of
from tuner.record.differences import example_difference
from tuner.record.directory import RunDirectory
from tuner.record.events import FoldFinished, TrialEnded, TrialStarted
from tuner.record.examples import ExampleNames
from tuner.record.journal import open_search_journal
from tuner.record.lock import locked
from tuner.record.predictions import PredictionFiles
from tuner.reports.search_comparison import SearchComparison, best_so_far, compare_searches
from tuner.reports.search_run import read_run


def evaluated(folder: Path, seed: int = 0, wrong: float = 0.2) -> RunDirectory:
    """A search whose model has predicted the test split of `write_evaluated`, a share of it wrongly."""
    directory, _ = write_evaluated(folder)
    PredictionFiles(directory).add_test(1, 0, predictions(np.arange(NUM_TEST), seed, wrong))
    return directory


def write_inventory(directory: RunDirectory, digest: str = "ab", label: str = "") -> None:
    names = ExampleNames.read(directory)
    assert names is not None
    rows = [f"0,test,{name},{label or CLASSES[i % 3]},{digest}" for i, name in enumerate(names.test)]
    directory.data.write_text("sample,split,name,class,hash\n" + "\n".join(rows) + "\n")


def compared(*directories: RunDirectory) -> SearchComparison:
    return compare_searches([read_run(directory) for directory in directories])


def test_models_are_paired_over_the_same_test_images(tmp_path: Path) -> None:
    a, b = evaluated(tmp_path / "a" / "1", seed=1), evaluated(tmp_path / "b" / "1", seed=2, wrong=0.5)
    (found,) = compared(a, b).differences
    right = []
    for directory in (b, a):
        kept = PredictionFiles(directory).test(1, 0)
        assert kept is not None
        right.append((kept.probabilities.argmax(axis=1) == kept.labels).tolist())
    assert (found.run, found.reference, found.difference) == ("b/1", "a/1", example_difference(*right))
    (same,) = compared(a, evaluated(tmp_path / "c" / "1", seed=1)).differences
    assert same.difference is not None
    assert same.difference.mean == 0


def test_images_are_paired_by_name_whatever_their_order(tmp_path: Path) -> None:
    a, b = (evaluated(tmp_path / name / "1", seed=1) for name in "ab")
    names, kept = ExampleNames.read(b), PredictionFiles(b).test(1, 0)
    assert names is not None
    assert kept is not None
    names.model_copy(update={"test": names.test[::-1]}).write(b)
    turned = type(kept)(np.arange(NUM_TEST), kept.labels[::-1], kept.probabilities[::-1])
    PredictionFiles(b).add_test(1, 0, turned)
    (found,) = compared(a, b).differences
    assert found.difference is not None
    assert (found.difference.mean, found.difference.num_pairs) == (0, NUM_TEST)


@pytest.mark.parametrize("changed", ["contents", "names", "fewer"])
def test_other_test_images_are_not_compared(tmp_path: Path, changed: str) -> None:
    a, b = evaluated(tmp_path / "a" / "1"), evaluated(tmp_path / "b" / "1")
    names = ExampleNames.read(b)
    assert names is not None
    if changed == "names":
        names.model_copy(update={"test": ("other.png", *names.test[1:])}).write(b)
    elif changed == "fewer":
        PredictionFiles(b).add_test(1, 0, predictions(np.arange(NUM_TEST - 1), 0))
    for directory in (a, b):
        write_inventory(directory, digest="cd" if changed == "contents" and directory == b else "ab")
    (found,) = compared(a, b).differences
    assert found.difference is None
    same = {"contents": 0, "names": NUM_TEST - 1, "fewer": NUM_TEST - 1}[changed]
    other = NUM_TEST - (changed == "fewer")
    assert found.why == f"their test images differ: {NUM_TEST} images and {other}, of which {same} are the same"


def test_a_search_without_predictions_says_so(tmp_path: Path) -> None:
    a, b = evaluated(tmp_path / "a" / "1"), write_search(tmp_path / "b" / "1")
    (found,) = compared(a, b).differences
    assert (found.difference, found.why) == (None, "no test predictions of b/1 are kept")


def test_a_search_has_a_row_of_its_scores(tmp_path: Path) -> None:
    a, b = evaluated(tmp_path / "a" / "1"), write_search(tmp_path / "b" / "1", why=None)
    with closing(locked(b)):
        first, second = compared(a, b).searches
    assert (first.run, first.state, first.winner, first.method) == ("a/1", "finished", "trial-0001", "smile")
    assert first.val_score == pytest.approx(0.85)
    assert first.model_test_top1 is not None
    assert first.baselines == {"linear_probe": None}
    assert (first.num_trials, second.num_trials) == (4, 4)
    assert (second.state, second.model_test_top1, second.baselines) == ("running", None, {})


def test_settings_that_differ_are_listed_with_each_value(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"training__learning_rate": 0.02}, {"method__alpha": 0.3, "name": "other"}]
    runs = [write_search(tmp_path / str(i), [], space_of(**each)) for i, each in enumerate(changes)]
    assert compared(*runs).settings == {
        "method.alpha.uniform": ([0.1, 1.0], [0.1, 1.0], None),
        "training.learning_rate": (0.01, 0.02, 0.01),
        "method.alpha": (None, None, 0.3),
    }
    assert compared(runs[0], runs[0]).settings == {}


def test_the_best_so_far_is_over_the_time_of_work(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with closing(open_search_journal(directory)) as journal:
        journal.append(search_started(time_s=100.0))
        for number, score in enumerate((0.5, 0.4, 0.7)):
            params = {"method.gamma_fe": 0.05, "method.alpha": 0.5}
            at = 110.0 + 10 * number
            journal.append(TrialStarted(trial=number, params=params, source="sampler", time_s=at - 5))
            for k in (1, 2):
                journal.append(FoldFinished(trial=number, result=fold(k, score), time_s=at))
            journal.append(TrialEnded(trial=number, state="complete", time_s=at))
    assert best_so_far(read_run(directory)) == [(10.0, 0.5), (30.0, pytest.approx(0.7))]


def test_it_is_written_as_json(tmp_path: Path) -> None:
    found = compared(evaluated(tmp_path / "a" / "1"), evaluated(tmp_path / "b" / "1", seed=3))
    found.write(tmp_path / "deep" / "compared.json")
    text = (tmp_path / "deep" / "compared.json").read_text()
    assert json.loads(text)["differences"][0]["reference"] == "a/1"
    assert SearchComparison.model_validate_json(text) == found
