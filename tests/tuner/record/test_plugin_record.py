"""Copies of plugins' files in the run directory, and what resuming makes of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables.errors import BadInput
from trainables.plugins import VARIABLE, plugin_files
from tuner.record.directory import RunDirectory
from tuner.record.plugin_record import check_same_plugins, keep_plugins, use_recorded_plugins


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def use(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    monkeypatch.setenv(VARIABLE, os.pathsep.join(map(str, files)))


def write(file: Path, text: str = "METHODS = {}\n") -> Path:
    file.write_text(text)
    return file


def test_each_file_is_copied_once(tmp_path: Path, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = write(tmp_path / "mine.py", "first"), write(tmp_path / "other.py")
    use(monkeypatch, mine)
    keep_plugins(directory)
    write(mine, "second")
    use(monkeypatch, mine, other)
    keep_plugins(directory)
    assert [copy.name for copy in directory.plugin_copies] == ["mine.py", "other.py"]
    assert (directory.plugins / "mine.py").read_text() == "first"
    assert set(directory.plugin_copies) <= set(directory.artifacts)


def test_without_plugins_there_is_no_folder(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    keep_plugins(directory)
    assert not directory.plugins.exists()


def test_the_copies_are_used_where_no_file_of_their_name_is_given(
    tmp_path: Path, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = write(tmp_path / "mine.py"), write(tmp_path / "other.py")
    use(monkeypatch, mine, other)
    keep_plugins(directory)
    use(monkeypatch, mine)
    use_recorded_plugins(directory)
    assert plugin_files() == [mine, directory.plugins / "other.py"]
    check_same_plugins(directory)


def test_a_file_that_has_changed_is_refused_with_its_copy(
    tmp_path: Path, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = write(tmp_path / "mine.py")
    use(monkeypatch, mine)
    keep_plugins(directory)
    check_same_plugins(directory)
    write(mine, "METHODS = {'another': 1}\n")
    with pytest.raises(BadInput) as refused:
        check_same_plugins(directory)
    copy = directory.plugins / "mine.py"
    assert str(refused.value.problems[0]) == (
        f"{mine}: --plugin: expected what the search was started with, kept in {copy} "
        "(which is used without --plugin), got other contents"
    )


def test_a_file_that_cannot_be_copied_is_said(
    tmp_path: Path, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, write(tmp_path / "mine.py"))
    directory.plugins.touch()
    with pytest.raises(BadInput, match=r"--plugin: expected a file that can be copied"):
        keep_plugins(directory)
