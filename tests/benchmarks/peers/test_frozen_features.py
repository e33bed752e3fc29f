from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peers.photographs import splits_of
from benchmarks.quality_runs import Setup, make_run, planned
from tests.benchmarks.photographs import written_pictures


@pytest.mark.slow
def test_colours_are_told_apart_in_a_process_of_its_own(tmp_path: Path) -> None:
    root = written_pictures(tmp_path / "photos")
    setup = Setup(1.0, 32, "package/efficientnet_lite0", (), "abc", sys.executable, tmp_path, tmp_path)
    run = make_run(setup, root, planned(setup, root, "linear_probe", 0))
    assert run.failed == ""
    assert run.correct == "1" * len(splits_of(root)[1].files)
    assert run.said.startswith("C = ")
    assert run.seconds > 0
