"""Small datasets in the layouts of the published ones, with the traps of the originals: three classes, four training
and two test images of each, and an image that is on no list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

NUM_TRAIN, NUM_TEST = 4, 2
"""Images of each class."""


def cub_200_2011(root: Path) -> Path:
    """Numbers are not in the order of the lines, nor is one list in the order of another; split is by image."""
    folder = root / "CUB_200_2011"
    classes = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"]
    images = [(label, is_train, f"{classes[label]}/{k}.jpg") for label, is_train, k in _images(classes)]
    numbers = [7 * k % 18 + 3 for k in range(18)]
    rows = list(zip(numbers, images, strict=True))
    _write_lines(folder / "images.txt", [f"{i} {file}" for i, (_, _, file) in rows])
    _write_lines(folder / "image_class_labels.txt", [f"{i} {label + 1}" for i, (label, _, _) in reversed(rows)])
    _write_lines(folder / "train_test_split.txt", [f"{i} {int(is_train)}" for i, (_, is_train, _) in sorted(rows)])
    _write_lines(folder / "classes.txt", [f"{k} {name}" for k, name in enumerate(classes, start=1)][::-1])
    _write_images(folder / "images", [file for _, _, file in images] + [f"{classes[0]}/unlisted.jpg"])
    return folder


def stanford_cars(root: Path) -> Path:
    """Labels count from 1; one name has a slash."""
    folder = root / "stanford_cars"
    classes = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"]
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([classes], dtype=object)})
    for split, name in (("train", "devkit/cars_train_annos"), ("test", "cars_test_annos_withlabels")):
        labels = [label for label, is_train, _ in _images(classes) if is_train == (split == "train")]
        rows = [(label + 1, f"{k:05}.jpg") for k, label in enumerate(labels, start=1)]
        annotations = np.array(rows, dtype=[("class", "O"), ("fname", "O")])
        savemat(folder / f"{name}.mat", {"annotations": annotations})
        _write_images(folder / f"cars_{split}", [file for _, file in rows] + ["99999.jpg"])
    return folder


def fgvc_aircraft(root: Path) -> Path:
    """Names hold spaces and slashes, and all images are in one folder."""
    data = root / "fgvc-aircraft-2013b" / "data"
    classes = ["Boeing 737-700", "F-16A/B", "F/A-18"]
    images = [(f"{1000 + 17 * k % 18}", *image) for k, image in enumerate(_images(classes))]
    _write_images(data / "images", [f"{image}.jpg" for image, *_ in images] + ["9999.jpg"])
    _write_lines(data / "variants.txt", classes)
    for split, wanted in (("trainval", True), ("test", False)):
        lines = [f"{image} {classes[label]}" for image, label, is_train, _ in images if is_train == wanted]
        _write_lines(data / f"images_variant_{split}.txt", lines)
    return data.parent


def mit_indoor_67(root: Path) -> Path:
    """File names hold spaces, the lists end without a newline, and a whole class is on neither."""
    classes = ["airport_inside", "artstudio", "auditorium"]
    images = [(is_train, f"{classes[label]}/hall {k} .jpg") for label, is_train, k in _images(classes)]
    _write_images(root / "Images", [file for _, file in images] + ["bakery/1.jpg", "artstudio/unlisted.jpg"])
    for split, wanted in (("Train", True), ("Test", False)):
        lines = "\n".join(file for is_train, file in images if is_train == wanted)
        (root / f"{split}Images.txt").write_text(lines, encoding="utf-8")
    return root


def food_101(root: Path) -> Path:
    """The lists are JSON, by class."""
    folder = root / "food-101"
    classes = ["apple_pie", "baby_back_ribs", "baklava"]
    (folder / "meta").mkdir(parents=True)
    images = [(is_train, f"{classes[label]}/{10 * k}") for label, is_train, k in _images(classes)]
    _write_images(folder / "images", [f"{file}.jpg" for _, file in images] + ["baklava/unlisted.jpg"])
    for split, wanted in (("train", True), ("test", False)):
        files = [file for is_train, file in images if is_train == wanted]
        by_class = {name: [file for file in files if file.startswith(name)] for name in reversed(classes)}
        (folder / "meta" / f"{split}.json").write_text(json.dumps(by_class), encoding="utf-8")
    return folder


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "cub_200_2011": cub_200_2011,
    "stanford_cars": stanford_cars,
    "fgvc_aircraft": fgvc_aircraft,
    "mit_indoor_67": mit_indoor_67,
    "food_101": food_101,
}
"""Each writes its dataset below a folder, and returns the folder that the original's archive would unpack to."""


def _images(classes: Sequence[str]) -> Iterator[tuple[int, bool, int]]:
    """Label, whether it is for training, and a number within the class; tests come first."""
    for label in range(len(classes)):
        for k in range(NUM_TEST + NUM_TRAIN):
            yield label, k >= NUM_TEST, k


def _write_lines(file: Path, lines: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_images(folder: Path, names: Sequence[str]) -> None:
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (7 * k, 0, 0)).save(folder / name)
