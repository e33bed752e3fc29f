from __future__ import annotations

from pathlib import Path

import pytest

from tuner.experiment.tree import absolute_path


def test_all_paths_of_a_section_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"dataset": "manifest", "root": "photos", "file": "labels.csv", "name": "a/b"}
    paths = {"root": f"{tmp_path}/photos", "file": f"{tmp_path}/labels.csv"}
    assert absolute_path("data", data) == data | paths
    assert absolute_path("method", {"name": "x", "file": "y"}) == {"name": "x", "file": "y"}


@pytest.mark.parametrize("value", [None, 3, {"choice": ["a", "b"]}, "~nobody9/photos"])
def test_what_is_no_path_stays_as_it_is(value: object) -> None:
    assert absolute_path("data", {"root": value}) == {"root": value}
