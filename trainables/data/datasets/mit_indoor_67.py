"""MIT Indoor 67 (Quattoni and Torralba, CVPR 2009)."""

from __future__ import annotations

from pathlib import Path

from trainables.data.config import DataConfig
from trainables.data.datasets.listing import Dataset
from trainables.data.datasets.published import NAMED_AT_MOST, Published, Split, complete_folder, dataset_of, lines_of
from trainables.data.datasets.root_folder import quoted
from trainables.errors import BadInput, Problem

INDOOR = Published(
    folder="",
    files=("Images", "TrainImages.txt", "TestImages.txt"),
    num_classes=67,
    num_train=5360,
    num_test=1340,
    where="web.mit.edu/torralba/www/indoor.html",
)


def mit_indoor_67(config: DataConfig) -> Dataset:
    """MIT Indoor 67 (Quattoni and Torralba, 2009): 6,700 photographs of 67 kinds of rooms.

    `root` holds Images/ and, beside it, the two lists; torchvision has no reader. Each line of a list is one file, as a
    few names contain spaces. Of the 15,620 files only the 6,700 on the lists are used.
    """
    folder = complete_folder(config, INDOOR)
    train, test = (_class_and_file(folder / name) for name in ("TrainImages.txt", "TestImages.txt"))
    classes = sorted({name for name, _ in train})
    if unknown := sorted({name for name, _ in test} - set(classes)):
        expected = "only classes of TrainImages.txt in TestImages.txt"
        raise BadInput(Problem("root", expected, quoted(unknown, NAMED_AT_MOST)))
    label_of = {name: label for label, name in enumerate(classes)}

    def split(entries: list[tuple[str, str]]) -> Split:
        paths = [folder / "Images" / name / file for name, file in entries]
        return Split(paths, [label_of[name] for name, _ in entries])

    return dataset_of(config, INDOOR, classes, split(train), split(test))


def _class_and_file(file: Path) -> list[tuple[str, str]]:
    """Reads lines `class/file` as (class, file). Raises BadInput for a malformed line."""
    entries = []
    for number, line in enumerate(lines_of(file), start=1):
        name, slash, image = line.partition("/")
        if not (name and slash and image):
            raise BadInput(Problem("root", f"class/file in every line of '{file}'", f"{line!r} in line {number}"))
        entries.append((name, image))
    return entries
