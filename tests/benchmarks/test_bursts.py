"""Bursts are groups by their names, and no copy is the photograph itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.bursts import GROUP_BY, main, write_bursts
from trainables.data.config import DataConfig
from trainables.data.folds import fold_at
from trainables.data.loading import load_train


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five training photographs and a test photograph of each of two classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 1)):
        for name in ("ape", "bee"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_folds_keep_bursts_whole(root: Path, tmp_path: Path) -> None:
    written = tmp_path / "bursts"
    write_bursts(root, written, bursts_per_class=4, burst_size=3, seed=0)
    files = sorted(path.name for path in (written / "train").rglob("*.jpg"))
    assert files == sorted(f"burst_{burst:02d}_{shot}.jpg" for burst in range(8) for shot in range(3))
    data = DataConfig.model_validate(
        {"dataset": "imagefolder", "root": str(written), "size_px": 32, "group_by": GROUP_BY}
    )
    train = load_train(data)
    assert train.groups is not None
    assert len(np.unique(train.groups)) == 8
    for number in (1, 2):
        fold = fold_at(train, number, 2, seed=0)
        assert not set(train.groups[fold.train]) & set(train.groups[fold.validation])


def test_copies_differ(root: Path, tmp_path: Path) -> None:
    write_bursts(root, tmp_path / "bursts", bursts_per_class=1, burst_size=4, seed=0)
    assert len({path.read_bytes() for path in (tmp_path / "bursts" / "train" / "ape").iterdir()}) == 4


@pytest.mark.slow
def test_the_command_says_both_validations(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--root", str(root), "--bursts", "3", "--burst-size", "2", "--num-folds", "2", "--size-px", "32"])
    first, without, grouped = capsys.readouterr().out.splitlines()
    assert first.startswith("draw 0: test ")
    assert first.endswith("2 photographs)")
    assert without.startswith("  without group_by  validation ")
    assert grouped.startswith("  with group_by     validation ")
    assert " by 12 photographs), " in without
    assert " by 6 bursts), " in grouped
