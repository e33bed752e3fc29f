"""`python -m tuner.export`: a file for other programs, with the largest difference from the model."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from tests.tuner.prediction.tiny import CLASSES, save_model
from trainables import exporting
from trainables.exporting import FORMATS, SUFFIXES
from tuner.export import main

command = importlib.import_module("tuner.export")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(save_model(tmp_path / "a_model"))


def test_the_file_and_its_description_are_written(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--to", "torch_export", "--model", model]) == 0
    files, difference = capsys.readouterr().out.splitlines()
    assert files.startswith("model.pt2 (")
    assert files.endswith(" MB), model.pt2.json")
    assert difference.startswith("largest difference of an output from the model's: ")
    assert difference.endswith(" (allowed: 0.0001)")
    assert json.loads(Path("model.pt2.json").read_text())["class_names"] == list(CLASSES)


def test_a_file_of_another_kind_is_refused(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--to", "torch_export", "--model", model, "--output", "m.onnx"]) == 2
    assert capsys.readouterr().err == "error: --output: expected a file that ends in .pt2, got m.onnx\n"


def test_a_folder_that_cannot_be_written_is_bad_input(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file")
    assert main(["--to", "torch_export", "--model", model, "--output", "taken/m.pt2"]) == 2
    assert capsys.readouterr().err.startswith("error: --output: expected a file that can be written, got taken/m.pt2: ")


def test_missing_packages_are_said_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "_can_be_imported", lambda name: False)
    assert main(["--to", "onnx", "--model", "nowhere"]) == 2
    expected = "expected the packages of onnx (pip install 'smile-tuner[export]'), got no onnx, onnxscript, onnxruntime"
    assert capsys.readouterr().err == f"error: --to: {expected}\n"


def test_outputs_that_differ_are_exit_code_1(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    assert main(["--to", "safetensors", "--model", model]) == 1
    assert capsys.readouterr().err.startswith("error: model.safetensors is not kept: its outputs differ")
    assert not Path("model.safetensors").exists()


def test_the_command_knows_every_format() -> None:
    assert command.SUFFIXES == SUFFIXES
    assert list(SUFFIXES) == list(FORMATS)
