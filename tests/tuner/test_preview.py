"""The preview command: whose batch it shows, and where it writes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.tuner.tiny import space_of, write_yaml
from trainables.data.loading import load_train
from trainables.preview import preview_png
from tuner import preview


def test_the_batch_of_the_first_configuration_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, output = write_yaml(tmp_path), tmp_path / "sheet.png"
    overrides = ["--set", "data.crop=random_resized", "--set", "method.alpha={uniform: [0.3, 0.9]}"]
    assert preview.main(["--space", str(file), *overrides, "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    space = space_of(data__crop="random_resized", method__alpha={"uniform": [0.3, 0.9]})
    config = space.trial_config({"method.gamma_fe": 0.01, "method.alpha": 0.3})
    assert output.read_bytes() == preview_png(config, load_train(config.data))
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"


def test_a_first_point_is_the_first_configuration() -> None:
    space = space_of(
        data__auto_augment={"choice": ["none", "rand_augment"]},
        data__erasing={"uniform": [0.1, 0.5]},
        search__first_points=[{"auto_augment": "rand_augment"}],
    )
    config = preview.first_config(space)
    assert (config.data.auto_augment, config.data.erasing) == ("rand_augment", 0.1)


class TestBadInput:
    def test_what_is_wrong_in_the_file_has_its_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = write_yaml(tmp_path, data__crop="centre", data__erasing=2)
        assert preview.main(["--space", str(file), "--output", str(tmp_path / "sheet.png")]) == 2
        said = capsys.readouterr().err
        assert "data.crop: expected 'none', 'random' or 'random_resized', got 'centre'" in said
        assert "data.erasing: expected a number of at most 1, got 2" in said
        assert said.startswith(f"error: {file}:")
        assert not (tmp_path / "sheet.png").exists()

    def test_images_that_are_not_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = write_yaml(tmp_path, data__dataset="imagefolder", data__root=str(tmp_path / "none"))
        assert preview.main(["--space", str(file)]) == 2
        assert f"error: {file}:" in (said := capsys.readouterr().err)
        assert "data.root: expected" in said

    def test_texts(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trainables.data.loading.load_train", lambda config: None)
        file = write_yaml(tmp_path)
        assert preview.main(["--space", str(file)]) == 2
        assert "data.dataset: expected a dataset of images, got digits, which is of texts" in capsys.readouterr().err

    def test_a_file_that_cannot_be_written(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        output = tmp_path / "no" / "sheet.png"
        assert preview.main(["--space", str(write_yaml(tmp_path)), "--output", str(output)]) == 2
        expected = "error: --output: expected a file that can be written, got"
        assert capsys.readouterr().err == f"{expected} {output}: no such file or directory\n"
