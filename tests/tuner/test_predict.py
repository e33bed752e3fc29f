"""`python -m tuner.predict`: the most probable classes of every photo, or everything that is wrong, at once."""

from __future__ import annotations

import csv
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
from tests.tuner.prediction.tiny import CLASSES, detector, load, save_model, write_photos
from trainables.classifier import set_novelty
from trainables.results import RetrainResult
from tuner import predict
from tuner.predict import main
from tuner.record.directory import RunDirectory
from tuner.record.events import RetrainingFinished, SearchStarted
from tuner.record.journal import open_search_journal
from tuner.tracking.projection import Projection
from tuner.tracking.registry import register_model
from tuner.tracking.store import prepare_store

RUN = "2025-01-31_12-00-00"

pytestmark = MLFLOW_LEAKS


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


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
    probabilities = load(model).predict_proba(["a.jpg"])[0]
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


def test_one_that_cannot_be_read_does_not_lose_the_rest(
    model: Path, photos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.jpg").write_text("no image")
    assert main(["--model", str(model), "--top", "1", "a.jpg", "notes.jpg", "b.png"]) == 1
    captured = capsys.readouterr()
    assert [line.split("\t")[0] for line in captured.out.splitlines()] == ["a.jpg", "b.png"]
    assert captured.err.splitlines() == [
        "error: notes.jpg: expected an image file, got a format that Pillow does not know",
        "1 of 3 cannot be read",
    ]
    assert main(["--model", str(model), "notes.jpg"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_photos_that_are_not_there_are_named_before_anything_is_done(
    model: Path, photos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(model), "gone.jpg", "a.jpg", "*.tif"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: gone.jpg: expected an image file, a folder or a pattern, got no such file",
        "error: *.tif: expected an image file, a folder or a pattern, got no such file",
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
    assert photo_line == "error: gone.jpg: expected an image file, a folder or a pattern, got no such file"


def test_a_folder_is_written_as_csv(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_photos(tmp_path, "p/1.png", "p/2.png", "p/deep/3.png")
    Path(paths[1]).write_text("no image")
    output = tmp_path / "new" / "predictions.csv"
    set_novelty(model, detector(1.0))
    assert main(["--model", str(model), str(tmp_path / "p"), "--output", str(output)]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].startswith("2 photos classified: ")
    assert captured.out.splitlines()[1:] == ["2 unlike anything seen"]
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows] == paths
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert [row["unlike"] for row in rows] == ["true", "", "true"]
    expected = load(model).predict([paths[2]]).iloc[0]
    assert (rows[2]["label"], float(rows[2]["probability"])) == (
        expected["label"],
        pytest.approx(expected["probability"], rel=1e-4),
    )


@pytest.mark.parametrize("output", ["a.jpg/p.csv", "model"])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    output: str, model: Path, photos: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "given_model", lambda arguments: pytest.fail("it began"))
    assert main(["--model", str(model), "a.jpg", "--output", output]) == 2
    assert capsys.readouterr().err.startswith("error: --output: expected a file that can be written, got ")


class TestScore:
    @pytest.fixture
    def labelled(self, model: Path, tmp_path: Path) -> Path:
        """Seven photos in folders of the classes that the model sees in them, but the first, and one unreadable."""
        classifier = load(model)
        (tmp_path / "labelled" / "fig").mkdir(parents=True)
        for i, path in enumerate(write_photos(tmp_path, *(f"{i}.png" for i in range(7)))):
            seen = classifier.predict([path])["label"][0]
            label = seen if i else next(name for name in CLASSES if name != seen)
            (tmp_path / "labelled" / label).mkdir(exist_ok=True)
            Path(path).rename(tmp_path / "labelled" / label / f"{i}.png")
        (tmp_path / "labelled" / "fig" / "broken.png").write_text("no image")
        return tmp_path / "labelled"

    def test_prints_how_good_the_model_is(
        self, model: Path, labelled: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        output = tmp_path / "p.csv"
        assert main(["--model", str(model), "--score", str(labelled), "--output", str(output)]) == 1
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        assert lines[0] == "top-1 0.8571 (0.4869 to 0.9743), 6 of 7"
        assert sum("taken for" in line for line in lines) == 1
        assert captured.err.endswith("1 of 8 cannot be read\n")
        with output.open(newline="") as file:
            rows = list(csv.DictReader(file))
        read = [row for row in rows if not row["error"]]
        assert len(read) == len(rows) - 1 == 7
        assert sum(row["label"] == row["true_label"] for row in read) == 6
        assert {Path(row["photo"]).parent.name for row in rows} == {row["true_label"] for row in rows}

    def test_as_json(self, model: Path, labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (labelled / "fig" / "broken.png").unlink()
        assert main(["--model", str(model), "--score", "--json", str(labelled)]) == 0
        scores = json.loads(capsys.readouterr().out)
        assert scores["top1"]["share"] == pytest.approx(6 / 7)
        assert len(scores["confusions"]) == 1

    def test_refuses_classes_that_the_model_does_not_know(
        self, model: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (labelled / "figs").mkdir()
        assert main(["--model", str(model), "--score", str(labelled)]) == 2
        assert "got 'figs' (did you mean 'fig'?)" in capsys.readouterr().err


class TestProgress:
    def test_of_few_photos_is_not_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        with predict._progress(199) as on_progress:
            on_progress(199)
        assert capsys.readouterr().err == ""

    def test_of_many_is_a_line_for_each_tenth(self, capsys: pytest.CaptureFixture[str]) -> None:
        with predict._progress(1000) as on_progress:
            for num_done in range(50, 1001, 50):
                on_progress(num_done)
        lines = capsys.readouterr().err.splitlines()
        assert lines == [f"{num_done} of 1000 photos" for num_done in range(100, 1001, 100)]

    def test_is_a_bar_on_a_terminal(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        with predict._progress(1000) as on_progress:
            on_progress(1000)
        assert "100%" in capsys.readouterr().err


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
    assert bad.stderr == "error: gone.jpg: expected an image file, a folder or a pattern, got no such file\n"
