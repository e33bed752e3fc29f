"""What cannot run is refused before the first trial: exit code 2, no traceback, everything at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.end_to_end.commands import Run, run_command
from tests.tuner.tiny import write_photos, write_yaml

pytestmark = pytest.mark.slow


def refused(folder: Path, *arguments: str) -> str:
    """What is said of `tiny.yaml` in `folder`, of which no experiment may be left behind."""
    run: Run = run_command("tuner.search", "--space", "tiny.yaml", *arguments, folder=folder)
    assert run.code == 2, run.out + run.err
    assert "Traceback" not in run.out + run.err
    assert "trial-0000" not in run.out
    assert all(line.startswith("error: ") or line.endswith("nothing was started") for line in run.err.splitlines())
    assert list(folder.glob("experiments/*/*")) == []
    return run.err


def line_of(text: str, folder: Path) -> int:
    """Number of the line of `tiny.yaml` that begins with `text`."""
    lines = (folder / "tiny.yaml").read_text(encoding="utf-8").splitlines()
    return 1 + next(i for i, line in enumerate(lines) if line.strip().startswith(text))


def test_a_flag_that_is_wrong(tmp_path: Path) -> None:
    write_yaml(tmp_path)
    said = refused(tmp_path, "--trials", "0", "--set", "data.size_px=0")
    assert "error: --trials: expected a number above 0, got 0" in said
    assert "error: --set data.size_px: expected a number above 0, got 0" in said


def test_many_mistakes_in_the_file(tmp_path: Path) -> None:
    write_yaml(
        tmp_path,
        training__nun_steps=5,
        method__gamma_fe={"log_uniform": [0, 0.1]},
        method__alpha={"unifrom": [0, 1]},
        search__folds=1,
    )
    said = refused(tmp_path)
    for key, text in {
        "training.nun_steps": "nun_steps:",
        "method.gamma_fe": "gamma_fe:",
        "method.alpha": "alpha:",
        "search.folds": "folds:",
    }.items():
        assert f"error: tiny.yaml:{line_of(text, tmp_path)}: {key}: expected " in said
    assert "did you mean 'num_steps'?" in said
    assert "did you mean 'uniform'?" in said


def test_data_and_backbone_that_are_not_there(tmp_path: Path) -> None:
    write_yaml(
        tmp_path,
        data={"dataset": "imagefolder", "root": "photos", "size_px": 32},
        backbone__name="package/efficientnet_lite9",
    )
    said = refused(tmp_path)
    root, name = line_of("root:", tmp_path), line_of("name: package/", tmp_path)
    assert f"tiny.yaml:{root}: data.root: expected an existing folder, got '{tmp_path / 'photos'}'" in said
    assert f"tiny.yaml:{name}: backbone.name: expected " in said
    assert "package/efficientnet_lite0" in said


def test_an_image_that_does_not_decode(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", side_px=8, train=3, test=3)
    broken = [tmp_path / "photos" / "train" / "pear" / "1.png", tmp_path / "photos" / "test" / "apple" / "2.png"]
    for file in broken:
        file.write_bytes(file.read_bytes()[:40])
    write_yaml(tmp_path, data={"dataset": "imagefolder", "root": "photos", "size_px": 32})
    said = refused(tmp_path)
    assert all(str(file) in said for file in broken)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    write_yaml(tmp_path)
    (tmp_path / "file").write_text("no folder")
    said = refused(tmp_path, "--tracking-uri", f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")
    assert "--tracking-uri: expected " in said


def test_a_dry_run_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    write_yaml(tmp_path, resources={"cpus": 1, "gpus": 0.25})
    run = run_command(
        "tuner.search", "--space", "tiny.yaml", "--dry-run", "--set", "training.num_steps=5", folder=tmp_path
    )
    assert run.code == 0, run.err
    assert "6 trials × 2 folds × 5 steps (5 epochs) of 8 examples = 60 steps" in run.out
    assert f"the cluster has {len(os.sched_getaffinity(0))} CPUs" in run.out
    assert "gamma_fe" in run.out
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
