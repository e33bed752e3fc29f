"""What every contestant of `benchmarks.quality` is given, and what it hands in: classes of the test photographs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.backbones.config import BackboneConfig
from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Listing
from trainables.data.datasets.registry import open_dataset
from trainables.errors import BadInput, Problem
from trainables.files import write_whole


@dataclass(frozen=True)
class PhotoTask:
    """Photographs in `root`/train and `root`/test, a network, and `minutes` of wall-clock from `started_s` (Unix time).

    `out` is the file that the contestant writes; `kept` a folder for what it measures once for these photographs.
    """

    root: Path
    out: Path
    kept: Path
    minutes: float
    seed: int
    started_s: float
    size_px: int = 128
    backbone: str = "package/efficientnet_lite0"

    @property
    def stored_px(self) -> int:
        """Side to which images are resized before they are cropped."""
        return round(self.size_px / 0.875)

    @property
    def backbone_config(self) -> BackboneConfig:
        """The network, with its published weights."""
        return BackboneConfig(name=self.backbone)


@dataclass(frozen=True)
class Split:
    """Image files of a split and their labels, 0…K−1 in the order of `class_names`, which are the training split's."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]


def splits_of(root: Path) -> tuple[Split, Split]:
    """The training and the test photographs. Raises BadInput if there are no two splits with classes.

    They are listed by this project's code, so that all contestants have the same ones.
    """
    dataset = open_dataset(DataConfig(dataset="imagefolder", root=root))
    if dataset.problems:
        raise BadInput(dataset.problems)
    if dataset.test is None:
        raise BadInput(Problem("root", "train/ and test/", f"'{root}', which holds no test/"))
    return _split_of(dataset.train, dataset.class_names), _split_of(dataset.test, dataset.class_names)


class Clock:
    """Wall-clock of a contestant since its process was started, less what is not counted."""

    def __init__(self, task: PhotoTask) -> None:
        self._task = task
        self.uncounted_s = 0.0

    @property
    def seconds(self) -> float:
        """What has been used."""
        return time.time() - self._task.started_s - self.uncounted_s

    @property
    def left_s(self) -> float:
        """What is left of the minutes."""
        return 60 * self._task.minutes - self.seconds

    def known(self, name: str, measure: Callable[[], list[float]]) -> list[float]:
        """What a person would know from experience: how long parts of the work take, in seconds.

        They are measured once for a folder of photographs, and that is not counted.
        """
        started_s, file = time.time(), self._task.kept / f"{name}.json"
        if not file.exists():
            write_whole(file, json.dumps(measure()).encode())
            self.uncounted_s += time.time() - started_s
        seconds: list[float] = json.loads(file.read_bytes())
        return seconds


def hand_in(task: PhotoTask, clock_s: float, said: str, files: Sequence[Path], classes: Sequence[str]) -> None:
    """Writes the predicted classes of test photographs, the seconds up to the final model, and a word about it."""
    predicted: Mapping[str, str] = {
        file.relative_to(task.root).as_posix(): name for file, name in zip(files, classes, strict=True)
    }
    entry = {"seconds": clock_s, "said": said, "predicted": predicted}
    write_whole(task.out, json.dumps(entry, ensure_ascii=False).encode())


def _split_of(listing: Listing, class_names: tuple[str, ...]) -> Split:
    return Split(tuple(map(Path, listing.names)), tuple(listing.labels.tolist()), class_names)
