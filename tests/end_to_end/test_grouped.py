"""A search of photographs in bursts, which folds keep whole: what it says of them, and what its model knows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.end_to_end.commands import Run, run_command
from tests.end_to_end.space import write_space
from tests.marks import MLFLOW_LEAKS
from trainables.novelty import read_known
from tuner.record.directory import RunDirectory
from tuner.record.examples import ExampleNames

pytestmark = [pytest.mark.slow, MLFLOW_LEAKS]

GROUP_BY = r"^(burst_\d+)_"
NOTE = f"60 training examples in 30 groups by data.group_by '{GROUP_BY}', which folds do not split"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of each digit three bursts of two photographs, the second a little darker, and two test photographs."""
    folder = tmp_path_factory.mktemp("grouped")
    digits = load_digits()
    for label in range(10):
        images = iter(digits.images[digits.target == label])
        for split in ("train", "test"):
            (folder / "photos" / split / str(label)).mkdir(parents=True)
        for burst in range(3):
            pixels = next(images) * 15
            for shot, brightness in enumerate((1.0, 0.9)):
                name = f"burst_{3 * label + burst:02d}_{shot}.png"
                _save(brightness * pixels, folder / "photos" / "train" / str(label) / name)
        for number in range(2):
            _save(next(images) * 15, folder / "photos" / "test" / str(label) / f"{number}.png")
    write_space(folder, folder / "photos", search__trials=2, training__head_init="probe")
    command = ("tuner.search", "--space", "tiny.yaml", "--json", "outcome.json")
    return run_command(*command, "--set", f"data.group_by={json.dumps(GROUP_BY)}", folder=folder)


def _save(pixels: np.ndarray, file: Path) -> None:
    Image.fromarray(pixels.astype(np.uint8)).resize((32, 32)).convert("RGB").save(file)


def test_the_groups_are_said_everywhere(run: Run) -> None:
    assert run.code == 0, run.out + run.err
    assert NOTE in run.out
    assert NOTE in run.outcome["data_notes"]
    report = (run.directory / "report.html").read_text(encoding="utf-8")
    assert "60 training examples in 30 groups by data.group_by" in report


def test_no_fold_splits_a_group(run: Run) -> None:
    names = ExampleNames.read(RunDirectory(run.directory))
    assert names is not None
    groups = [name.rpartition("/")[2][: len("burst_00")] for name in names.train]
    folders = sorted((run.directory / "predictions").glob("trial-*"))
    assert folders
    for folder in folders:
        validated = [np.load(file)["index"] for file in sorted(folder.glob("fold-*.npz"))]
        first, second = ({groups[i] for i in index} for index in validated)
        assert len(first | second) == 30
        assert not first & second


def test_the_model_says_what_is_unlike_anything_seen(run: Run) -> None:
    known = read_known(run.directory / "model" / "known.npz", threshold=0.0)
    assert len(known.known) == 60, "one of each training example, out of fold"
    given = ("photos/test", "--model", str(run.directory / "model"), "--output", "predicted.csv")
    predicted = run_command("tuner.predict", *given, folder=run.folder)
    assert predicted.code == 0, predicted.out + predicted.err
    with (run.folder / "predicted.csv").open(newline="") as file:
        unlike = [row["unlike"] for row in csv.DictReader(file)]
    assert len(unlike) == 20
    assert set(unlike) <= {"true", "false"}
    assert unlike.count("true") < 10, "they are of the known kind"
