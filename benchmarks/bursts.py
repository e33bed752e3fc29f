"""What validation says of photographs in bursts, with `data.group_by` and without it:

    python -m benchmarks.bursts --root clothing10

Of some training photographs of each class of `--root` (layout of `imagefolder`) bursts are written to a temporary
folder: each photograph and near copies of it, moved and turned a little, brighter or darker, as a person takes several
of one object (`burst_07_3.jpg`). A linear probe, or with `--num-steps` fine-tuning from it, is validated on folds of
single photographs and on folds of whole bursts, and then trained on all of them and tested on the test split, in which
no burst is. Validation is optimistic by what it is above that test score.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.unlike import config_of
from trainables.config import TrialConfig
from trainables.data.datasets.formats import is_image
from trainables.data.examples import Examples
from trainables.data.folds import fold_at
from trainables.data.loading import load_test, load_train
from trainables.metrics import wilson_interval
from trainables.probe import PROBES
from trainables.results import RetrainFailed
from trainables.seeding import rng_for
from trainables.trial import FoldTraining, default_device, reseeded, train_and_test

GROUP_BY = r"^(burst_\d+)_"
LARGEST_PX = 256
"""Longer side of the copies, so that writing and reading them is quick."""


def near_copy(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The photograph again, as if taken a moment later: moved and turned a little, brighter or darker."""
    turned = photo.rotate(rng.uniform(-4, 4), resample=Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))
    width, height = photo.size
    share = rng.uniform(0.88, 0.98)
    left, top = rng.uniform(0, (1 - share) * width), rng.uniform(0, (1 - share) * height)
    cut = turned.crop((round(left), round(top), round(left + share * width), round(top + share * height)))
    return ImageEnhance.Contrast(ImageEnhance.Brightness(cut).enhance(rng.uniform(0.85, 1.15))).enhance(
        rng.uniform(0.9, 1.1)
    )


def write_bursts(root: Path, folder: Path, bursts_per_class: int, burst_size: int, seed: int) -> None:
    """Writes `train/<class>/burst_<number>_<position>.jpg` to `folder`, of training photographs of `root`, and links
    its test split."""
    number = 0
    for class_folder in sorted(path for path in (root / "train").iterdir() if path.is_dir()):
        rng = rng_for(seed, "bursts", class_folder.name)
        photos = sorted(path for path in class_folder.rglob("*") if is_image(path.name))
        (folder / "train" / class_folder.name).mkdir(parents=True)
        for position in rng.permutation(len(photos))[:bursts_per_class]:
            with Image.open(photos[position]) as opened:
                photo = ImageOps.exif_transpose(opened).convert("RGB")
            photo.thumbnail((LARGEST_PX, LARGEST_PX))
            for shot in range(burst_size):
                taken = photo if shot == 0 else near_copy(photo, rng)
                taken.save(folder / "train" / class_folder.name / f"burst_{number:02d}_{shot}.jpg", quality=90)
            number += 1
    (folder / "test").symlink_to((root / "test").absolute())


def validated(config: TrialConfig, train: Examples, num_folds: int) -> tuple[float, int]:
    """Top-1 over the validation parts of all folds, and the number of photographs in them."""
    right = num = 0
    for number in range(1, num_folds + 1):
        training = FoldTraining(config, train, number, fold_at(train, number, num_folds, config.seed), default_device())
        training.result()
        assert training.predictions is not None
        right += round(training.predictions.top1 * len(training.predictions))
        num += len(training.predictions)
        PROBES.clear()
    return right / num, num


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="photographs, with their test split")
    parser.add_argument("--bursts", type=int, default=6, help="number of bursts of each class (default: 6)")
    parser.add_argument("--burst-size", type=int, default=5, help="number of photographs of a burst (default: 5)")
    parser.add_argument("--num-folds", type=int, default=3)
    parser.add_argument("--num-steps", type=int, default=0, help="of fine-tuning; 0 is the linear probe (default: 0)")
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=1, help="number of draws of the photographs (default: 1)")
    given = parser.parse_args(argv)
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            write_bursts(given.root, Path(folder), given.bursts, given.burst_size, seed)
            config = config_of(Path(folder), given.num_steps, given.size_px)
            grouped = config.model_copy(update={"data": config.data.model_copy(update={"group_by": GROUP_BY})})
            ended = train_and_test(reseeded(config, seed), seed, load_train(config.data), load_test(config.data))
            if isinstance(ended, RetrainFailed):
                raise SystemExit(ended.reason)
            truth = ended.result.test_top1
            low, high = wilson_interval(truth, len(ended.test))
            print(f"draw {seed}: test {truth:.3f} ({low:.3f} to {high:.3f}, {len(ended.test)} photographs)", flush=True)
            for label, each in (("without group_by", config), ("with group_by", grouped)):
                train = load_train(each.data)
                score, num = validated(each, train, given.num_folds)
                num_drawn = num if train.groups is None else len(np.unique(train.groups))
                low, high = wilson_interval(score, num_drawn)
                counted = f"{low:.3f} to {high:.3f} by {num_drawn} {'photographs' if num_drawn == num else 'bursts'}"
                print(f"  {label:<18}validation {score:.3f} ({counted}), {score - truth:+.3f} to test", flush=True)


if __name__ == "__main__":
    main()
