from __future__ import annotations

from pathlib import Path

import pytest

from trainables.errors import BadInput
from tuner.experiment.extends import read_extended
from tuner.experiment.packaged_spaces import find_space, packaged_spaces

FOLDER = Path(__file__).parents[3] / "search_spaces"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_file_but_parts_has_a_name() -> None:
    files = {path for path in FOLDER.rglob("*.yaml") if "parts" not in path.parts}
    assert set(packaged_spaces().values()) == files
    assert {"smile", "compare/digits", "paper/table2/stanford_cars/n15/smile"} <= packaged_spaces().keys()


@pytest.mark.parametrize("name", ["smile", "compare/digits", "paper/table2/stanford_cars/n15/smile"])
def test_a_name_is_a_packaged_file(name: str) -> None:
    file = find_space(name)
    assert file == FOLDER / f"{name}.yaml"
    assert read_extended(file)["name"]


@pytest.mark.parametrize("path", ["smile", "smile.yaml", "here/smile"])
def test_a_file_that_exists_wins(path: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).touch()
    assert find_space(path) == Path(path)


@pytest.mark.parametrize("path", ["smile.yaml", "none/there.yml", "/smile.yaml"])
def test_what_ends_as_a_yaml_file_is_a_path(path: str) -> None:
    assert find_space(path) == Path(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "smile").mkdir()
    assert find_space("smile") == FOLDER / "smile.yaml"


@pytest.mark.parametrize("text", ["smlie", "paper/parts/images", "../search_spaces/smile", ""])
def test_what_is_neither_is_said_with_the_names_that_there_are(text: str) -> None:
    with pytest.raises(BadInput) as bad:
        find_space(text, "--space")
    said = str(bad.value)
    assert said.startswith(
        "--space: expected an experiment file, or the name of a packaged one "
        "(imagefolder, imagefolder_gpu, imagefolder_paper, smile, sst5, "
    )
    assert f"got {text!r}" in said


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(BadInput, match=r"got 'smlie' \(did you mean 'smile'"):
        find_space("smlie")
