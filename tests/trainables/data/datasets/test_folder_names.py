"""Names of folders and images that are not UTF-8."""

from __future__ import annotations

import os
from pathlib import Path

from tests.trainables.data.datasets.test_imagefolder import listed, refused
from trainables.errors import Problem

from ..conftest import MakeFolder


def test_names_that_are_not_utf8(make_folder: MakeFolder) -> None:
    root = make_folder({"ape": 1, "bee": 1})
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(root) + b"/ape/fa\xe7ade.jpg")).touch()
    expected = "names in UTF-8 of class folders and images (convmv changes the encoding of names)"
    assert refused(root) == (Problem("root", expected, r"'ape/fa\xe7ade.jpg', 'caf\xe9'"),)
    str(refused(root)[0]).encode()  # it can be printed


def test_names_in_a_validation_split_matter_if_it_is_used(make_folder: MakeFolder) -> None:
    root = make_folder({"train/ape": 1, "train/bee": 1, "val/ape": 1})
    Path(os.fsdecode(os.fsencode(root) + b"/val/ape/fa\xe7ade.jpg")).touch()
    source = listed(root)
    assert source.problems == ()
    assert [problem.got for problem in source.validation_problems] == [r"'val/ape/fa\xe7ade.jpg'"]


def test_a_root_that_is_not_utf8(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    root.mkdir()
    assert refused(root) == (Problem("root", "a folder whose name is UTF-8", rf"'{tmp_path}/\xe9'"),)
