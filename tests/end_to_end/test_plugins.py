"""A method from outside, from the command line to a model that predicts: the workers import it, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.commands import run_command
from tests.end_to_end.forked import clean_environment
from tests.end_to_end.space import write_photos, write_space

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "focal"


def test_a_search_with_a_plugin_and_what_it_prints(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    method = {"name": "focal", "focus": {"uniform": [0, 4]}}
    write_space(tmp_path, photos, method=method, search={"trials": 2, "folds": 2, "repeats": 1, "baselines": []})
    flags = ("--plugin", str(EXAMPLE / "focal.py"))
    search = run_command("tuner.search", "--space", "tiny.yaml", "--json", "outcome.json", *flags, folder=tmp_path)
    assert search.code == 0, search.out + search.err
    assert search.outcome["best_config"]["method"]["name"] == "focal"
    copy = search.directory / "plugins" / "focal.py"
    assert copy.read_bytes() == (EXAMPLE / "focal.py").read_bytes()
    resumed = run_command("tuner.search", "--resume", "tiny", "--trials", "3", folder=tmp_path)
    assert resumed.code == 0, resumed.out + resumed.err  # by the copy
    (resumed_line,) = (line.strip() for line in resumed.out.splitlines() if "tuner.predict" in line)
    assert f"--plugin {copy}" in resumed_line
    (line,) = (line.strip() for line in search.out.splitlines() if "tuner.predict" in line)
    photo = next(photos.rglob("*.png"))
    asked = subprocess.run(
        ["sh", "-c", line.replace("photo.jpg", str(photo))],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr
    assert str(photo) in asked.stdout


def test_the_contract_runs_on_the_example_as_its_author_would(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{EXAMPLE}"}
    environment |= {"SMILE_TUNER_PLUGINS": str(EXAMPLE / "focal.py"), "OMP_NUM_THREADS": "1"}
    for arguments in (["--pyargs", "trainables.testing", "-k", "focal"], [str(EXAMPLE / "test_focal.py")]):
        ended = subprocess.run(
            [*command, "-c", os.devnull, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr
        assert " passed" in ended.stdout
