from __future__ import annotations

from pathlib import Path

import pytest

from trainables.data.config import DataConfig
from trainables.data.datasets.class_names import class_name_problems
from trainables.data.datasets.registry import open_dataset
from trainables.errors import Problem

from ..conftest import MakeFolder


def test_ordinary_names_pass() -> None:
    names = ["ape", "Ape", "[red] :dog:", "caf\u00e9", "\u732b", "a b", "1", "no"]
    assert list(class_name_problems(names)) == []


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a\u2028b", "a\tb"])
def test_control_characters_are_refused_and_escaped(name: str) -> None:
    problems = list(class_name_problems(["ape", name]))
    assert problems == [Problem("dataset", "names of classes without control characters", repr(name))]
    assert problems[0].got.isprintable()


def test_two_unicode_forms_of_a_name_are_no_two_classes() -> None:
    (problem,) = class_name_problems(["bee", "caf\u00e9", "cafe\u0301"])
    assert problem.expected == "one class of a name, in one of its two Unicode forms"
    assert "convmv" in problem.got


def test_every_dataset_is_checked(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder({"fig\n": 1, "lime": 2})
    (tmp_path / "table.csv").write_text('path,label\nfruit/lime/0.jpg,"a\nb"\nfruit/lime/1.jpg,c\n')
    for config in (
        DataConfig(dataset="imagefolder", root=tmp_path / "fruit"),
        DataConfig(dataset="manifest", root=tmp_path, file=tmp_path / "table.csv"),
    ):
        problems = open_dataset(config).problems
        assert "names of classes without control characters" in [problem.expected for problem in problems]
