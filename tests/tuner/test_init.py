"""The templates of experiment files for photographs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tuner.experiment.packaged_spaces import packaged_spaces
from tuner.experiment.search_experiment import load_experiment
from tuner.init import TEMPLATES, experiment_name, main


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder named `photos` in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_the_packaged_experiment_with_the_folder(template: str) -> None:
    assert main(["photos", "--template", template]) == 0
    written = load_experiment(Path("photos.yaml"))
    packaged = load_experiment(packaged_spaces()[TEMPLATES[template][0]])
    assert written.name == "photos"
    assert written.fixed["data"]["root"] == str(Path("photos").resolve())
    assert written.as_tree() == packaged.as_tree()


def test_comments_stay(photos: Path) -> None:
    main(["photos"])
    text = Path("photos.yaml").read_text()
    assert text.startswith("# smile-tuner search --space photos.yaml\n")
    assert "  root: photos             # relative to where the command is given\n" in text
    assert text.count("#") == packaged_spaces()["imagefolder"].read_text().count("#")


def test_what_to_do_next_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    main(["photos", "--output", "my file.yaml"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("wrote my file.yaml: ")
    assert any(shlex.split(line)[-2:] == ["my file.yaml", "--dry-run"] for line in lines[1:])


def test_an_odd_name_is_quoted_and_made_valid(tmp_path: Path) -> None:
    odd = tmp_path / "my: photos #2 (ä)"
    odd.mkdir()
    assert main([str(odd)]) == 0
    written = load_experiment(Path("my-photos-2.yaml"))
    assert written.name == "my-photos-2"
    assert written.fixed["data"]["root"] == str(odd)


@pytest.mark.parametrize(("folder", "name"), [("ä", "photos"), ("a" * 200, "a" * 100), ("-x-", "x")])
def test_a_name_is_always_valid(folder: str, name: str) -> None:
    assert experiment_name(Path(folder)) == name


def test_a_file_that_is_there_stays(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos.yaml").write_text("mine")
    assert main(["photos"]) == 2
    assert "photos.yaml: --output: expected a file that is not there yet" in capsys.readouterr().err
    assert Path("photos.yaml").read_text() == "mine"


@pytest.mark.parametrize(("folder", "got"), [("photso", "no such folder"), ("file", "a file")])
def test_a_folder_has_to_be_there(folder: str, got: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main([folder]) == 2
    assert f"{folder}: FOLDER: expected a folder of photographs, got {got}" in capsys.readouterr().err
    assert not Path(f"{folder}.yaml").exists()


def test_a_place_that_cannot_be_written_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["photos", "--output", "no/such/folder.yaml"]) == 2
    assert "expected a file that can be written, got no such file or directory" in capsys.readouterr().err


def test_a_folder_that_no_experiment_file_can_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "caf\udce9").mkdir()
    assert main(["caf\udce9", "--output", "x.yaml"]) == 2
    assert "FOLDER: expected a folder whose name is UTF-8, got 'caf\\xe9'" in capsys.readouterr().err
    assert not Path("x.yaml").exists()
