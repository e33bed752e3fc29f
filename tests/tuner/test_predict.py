"""`python -m tuner.predict`: the most probable classes of every photo, or everything that is wrong, at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.marks import MLFLOW_LEAKS
from trainables.backbones import build_network
from trainables.classifier import Classifier, save_classifier
from trainables.config import TrialConfig
from trainables.results import RetrainResult
from tuner import predict
from tuner.predict import main
from tuner.record.directory import RunDirectory
from tuner.record.events import RetrainingFinished, SearchStarted
from tuner.record.journal import open_search_journal
from tuner.tracking.projection import Projection
from tuner.tracking.registry import register_model
from tuner.tracking.store import prepare_store

CLASSES = ("apple", "banana", "cherry", "date", "elderberry", "fig")
RUN = "2025-01-31_12-00-00"

pytestmark = MLFLOW_LEAKS


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = TrialConfig.model_validate(
        {
            "data": {"dataset": "digits", "size_px": 32, "resize_px": 32},
            "backbone": {"name": "timm/test_resnet", "pretrained": False},
            "method": {"name": "l2"},
        }
    )
    save_classifier(tmp_path / "model", build_network(config.backbone, len(CLASSES), 3, False), config, CLASSES)
    return tmp_path / "model"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    for name, image in zip(("a.jpg", "b.png"), pixels, strict=True):
        Image.fromarray(image).save(name)
    return ["a.jpg", "b.png"]


def test_plain_lines_are_the_five_most_probable_classes(
    model: Path, photos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(model), *photos]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [photo for photo, _, _ in lines] == ["a.jpg"] * 5 + ["b.png"] * 5
    probabilities = Classifier.load(model).predict_proba(["a.jpg"])[0]
    best = np.argsort(-probabilities)[:5]
    assert [(name, value) for _, name, value in lines[:5]] == [(CLASSES[k], f"{probabilities[k]:.1%}") for k in best]


def test_json_holds_probabilities(model: Path, photos: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(model), "--json", "--top", "9", "a.jpg"]) == 0
    guesses = json.loads(capsys.readouterr().out)
    assert guesses.keys() == {"a.jpg"}
    assert {guess["class_name"] for guess in guesses["a.jpg"]} == set(CLASSES)
    assert sum(guess["probability"] for guess in guesses["a.jpg"]) == pytest.approx(1, abs=1e-5)


def test_a_terminal_gets_a_table(
    model: Path, photos: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["--model", str(model), "--top", "2", *photos]) == 0
    shown = capsys.readouterr().out
    assert "probability" in shown
    assert shown.count("%") == 4


def test_names_are_no_markup_in_the_table(
    model: Path, photos: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Path("a.jpg").rename("a[copy]:dog:.jpg")
    assert main(["--model", str(model), "a[copy]:dog:.jpg"]) == 0
    assert "a[copy]:dog:.jpg" in capsys.readouterr().out


def test_every_bad_photo_is_named_at_once(
    model: Path, photos: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Path("notes.jpg").write_text("no image")
    assert main(["--model", str(model), "gone.jpg", "a.jpg", "notes.jpg"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: gone.jpg: expected an image file, got no such file or directory",
        "error: notes.jpg: expected an image file, got a format that Pillow does not know",
        "2 problems; nothing was started",
    ]


def test_an_unknown_model_is_named_along_with_missing_photos(
    photos: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--model", "nowhere", "gone.jpg", "a.jpg"]) == 2
    model_line, photo_line, _ = capsys.readouterr().err.splitlines()
    assert model_line.startswith(
        "error: nowhere: expected a folder with a classifier's classifier.json and weights.pt, got no such"
    )
    assert photo_line == "error: gone.jpg: expected an image file, got no such file"


@pytest.mark.parametrize("top", ["0", "-1", "many"])
def test_the_number_of_classes_is_checked(top: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--model", "x", "--top", top, "a.jpg"])
    assert "argument --top: expected a whole number above 0, got" in capsys.readouterr().err


def test_the_model_comes_out_of_the_registry(
    model: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    prepare_store(uri, "fruit")
    with closing(open_search_journal(RunDirectory(tmp_path / "experiment"))) as journal:
        journal.append(SearchStarted(name="fruit", run=RUN, space={}))
        journal.append(RetrainingFinished(trial=0, result=RetrainResult(0, 0.9, 1.0, [], {})))
    Projection(uri, "fruit", journal.directory).advance()
    champion = register_model(uri, "fruit", RUN, 0, model, "fruit", np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert main(["--model", str(model), *photos]) == 0
    expected = capsys.readouterr().out
    assert main(["--model", champion, "--tracking-uri", uri, *photos]) == 0
    assert capsys.readouterr().out == expected
    os.environ["MLFLOW_TRACKING_URI"] = uri
    assert main(["--model", champion, *photos]) == 0
    assert capsys.readouterr().out == expected
    assert main(["--model", "models:/vegetables@champion", *photos]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: models:/vegetables@champion: expected a model in the store sqlite:")
    assert captured.err.count("\n") == 1


@pytest.mark.slow
def test_the_command_as_it_is_typed(model: Path, photos: list[str]) -> None:
    command = [sys.executable, "-m", predict.__name__, "--model", str(model), "--top", "1"]
    good = subprocess.run([*command, *photos], capture_output=True, text=True)
    assert (good.returncode, good.stderr, good.stdout.count("%")) == (0, "", 2)
    bad = subprocess.run([*command, "gone.jpg"], capture_output=True, text=True)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "error: gone.jpg: expected an image file, got no such file or directory\n"
