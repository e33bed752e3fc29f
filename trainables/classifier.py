"""A trained network as a folder that needs nothing else: weights, class names, and how an image becomes an input.

A model of texts also needs the configuration and the tokenizer of its backbone, where the backbone's name says: in the
installed package, or in the cache of the Hugging Face hub.

    weights.pt         backbone and target head, tensors only
    classifier.json    configuration, class names, versions it was made with

MLflow keeps the same folder and loads it through `_load_pyfunc`, so that the model that is served is the model that is
on disk.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from trainables.backbones import build_network
from trainables.backbones.network import TransferNetwork
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.decoding import decode
from trainables.data.examples import Examples, as_inputs
from trainables.data.images import LabelledImages, Pixels
from trainables.data.texts import LabelledTexts
from trainables.errors import BadInput, Problem
from trainables.files import atomic_file, write_whole
from trainables.training.evaluation import predicted_probabilities
from trainables.trial import default_device

WEIGHTS = "weights.pt"
DESCRIPTION = "classifier.json"
PACKAGES = ("smile-tuner", "torch", "torchvision", "timm", "numpy", "pillow")
TEXT_PACKAGES = ("transformers", "tokenizers")
"""What a model of texts was made with besides."""

LABEL = "label"
PROBABILITY = "probability"
CLASS_PREFIX = "probability/"
"""Before a class name, its column of probabilities: no class can then collide with another column."""

IMAGE_COLUMN = "image"
"""Of a DataFrame with several columns, the one with the images."""

EncodedOrPixels = Any
"""One image: a path, the bytes of an image file, or integers H×W×3 in 0…255 (an array or nested lists)."""

Item = EncodedOrPixels
"""One image, or one text for a model of texts."""


def save_classifier(directory: Path, network: TransferNetwork, config: TrialConfig, class_names: Sequence[str]) -> None:
    """Writes `network` without its source head, which only training has a use for. The description comes last: with
    it, the folder is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_file(directory / WEIGHTS) as file:
        torch.save(_kept_tensors(network), file)
    description = {
        "class_names": list(class_names),
        "config": config.model_dump(mode="json"),
        "versions": {name: version(name) for name in PACKAGES + (TEXT_PACKAGES if config.data.has_texts else ())},
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    write_whole(directory / DESCRIPTION, text.encode())


class Classifier:
    """Images or texts in, class probabilities out, seen exactly as evaluation saw them during the search."""

    def __init__(
        self, network: TransferNetwork, config: TrialConfig, class_names: Sequence[str], device: torch.device
    ) -> None:
        self.class_names = tuple(class_names)
        self.config = config
        self._network = network.to(device).eval()
        self._device = device

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | None = None) -> Classifier:
        """Reads what `save_classifier` wrote; nothing is downloaded. Raises BadInput where `directory` holds no
        classifier that this version can read."""
        directory = Path(directory)
        try:
            description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
            tensors = torch.load(directory / WEIGHTS, map_location="cpu", weights_only=True)
            config = TrialConfig.model_validate(description["config"])
            network = _rebuilt(config, len(description["class_names"]), tensors)
        except OSError as error:
            raise _no_classifier(directory, f"{_os_reason(error)} ({error.filename})") from None
        except (ValueError, KeyError, RuntimeError, EOFError, UnpicklingError) as error:
            raise _no_classifier(directory, str(error).splitlines()[0]) from None
        return cls(network, config, description["class_names"], device or default_device())

    def predict_proba(self, images: Any) -> NDArray[np.float32]:
        """Probabilities N×K, in the order of `class_names`.

        `images` is a list, Series, one-dimensional array or DataFrame column of paths, of encoded files as bytes, or of
        integer arrays H×W×3; or one array N×H×W×3; or a single image. For a model of texts it is strings, or one.
        Raises BadInput that names every image that cannot be read.
        """
        items = list(as_items(images))
        parts: list[NDArray[np.float32]] = [np.empty((0, len(self.class_names)), dtype=np.float32)]
        problems: list[Problem] = []
        chunk = self.config.training.eval_batch_size
        for start in range(0, len(items), chunk):
            examples, unreadable = self._read(items[start : start + chunk], start)
            problems += unreadable
            if not problems:
                parts.append(self._probabilities(examples))
        if problems:
            raise BadInput(problems)
        return np.concatenate(parts)

    def predict(self, images: Any) -> pd.DataFrame:
        """One row an image: `label`, its `probability`, and a column `probability/<class>` for every class."""
        probabilities = self.predict_proba(images)
        best = probabilities.argmax(axis=1)
        columns = {
            LABEL: np.array(self.class_names, dtype=object)[best],
            PROBABILITY: probabilities.max(axis=1, initial=0),
        }
        for k, name in enumerate(self.class_names):
            columns[CLASS_PREFIX + name] = probabilities[:, k]
        return pd.DataFrame(columns)

    def _read(self, items: Sequence[Item], first: int) -> tuple[Examples, list[Problem]]:
        """The items as examples without labels, and what is wrong with those that are none."""
        no_labels = np.zeros(len(items), dtype=np.int64)
        if self.config.data.has_texts:
            problems = [_not_a_text(first + i, item) for i, item in enumerate(items) if not isinstance(item, str)]
            return LabelledTexts.of([str(item) for item in items], no_labels, self.class_names), problems
        pixels, problems = self._decoded(items, first)
        return LabelledImages.of(pixels, no_labels, self.class_names), problems

    def _decoded(self, items: Sequence[EncodedOrPixels], first: int) -> tuple[Pixels, list[Problem]]:
        side, resize = self.config.data.stored_px, self.config.data.resize
        pixels = np.zeros((len(items), side, side, 3), dtype=np.uint8)

        def into_row(i: int) -> Problem | None:
            try:
                pixels[i] = decode(_opened(items[i]), side, resize)
            except Exception as error:  # Pillow's readers raise whatever their parsers trip over
                return _unreadable(items[i], first + i, error)
            return None

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return pixels, [problem for problem in pool.map(into_row, range(len(items))) if problem]

    def _probabilities(self, examples: Examples) -> NDArray[np.float32]:
        inputs = as_inputs(examples, self.config.data, self._network.backbone.tokenizer)
        training = self.config.training
        batches = evaluation_batches(inputs, self.config.data, training.eval_batch_size, self._device)
        probabilities, _ = predicted_probabilities(self._network, batches, training, self._device)
        return np.asarray(probabilities, dtype=np.float32)


def as_items(images: Any) -> Iterator[EncodedOrPixels]:
    """The single images in any of the forms that `Classifier.predict_proba` takes."""
    if isinstance(images, pd.DataFrame):
        images = _image_column(images)
    if isinstance(images, str | bytes | Path) or (isinstance(images, np.ndarray) and images.ndim in (0, 3)):
        images = [images]
    yield from images


def _image_column(frame: pd.DataFrame) -> pd.Series:
    if IMAGE_COLUMN in frame.columns:
        return frame[IMAGE_COLUMN]
    if frame.shape[1] == 1:
        return frame.iloc[:, 0]
    columns = ", ".join(map(str, frame.columns))
    raise BadInput(Problem("images", f"a column {IMAGE_COLUMN!r}, or only one column", f"the columns {columns}"))


def _load_pyfunc(path: str) -> Classifier:
    """What MLflow calls with the folder that it kept."""
    return Classifier.load(path)


def _opened(item: EncodedOrPixels) -> Image.Image:
    if isinstance(item, str | Path):
        return Image.open(item)
    if isinstance(item, bytes | bytearray):
        return Image.open(io.BytesIO(item))
    pixels = np.asarray(item)
    if pixels.dtype.kind not in "ui" or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise TypeError(f"{pixels.dtype} of shape {'×'.join(map(str, pixels.shape)) or 'none'}")
    if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
        raise TypeError(f"values from {pixels.min()} to {pixels.max()}")
    return Image.fromarray(pixels.astype(np.uint8))


def _unreadable(item: EncodedOrPixels, position: int, error: Exception) -> Problem:
    where = str(item) if isinstance(item, str | Path) else f"image {position}"
    match error:
        case TypeError():
            return Problem(where, "an image file, its bytes, or integers H×W×3 from 0 to 255", str(error))
        case UnidentifiedImageError():
            return Problem(where, "an image file", "a format that Pillow does not know")
        case OSError(strerror=str()):
            return Problem(where, "an image file", _os_reason(error))
        case _:
            return Problem(where, "an image file", f"{type(error).__name__}: {error}")


def _not_a_text(position: int, item: Item) -> Problem:
    return Problem(f"text {position}", "a string", f"{type(item).__name__}")


def _no_classifier(directory: Path, got: str) -> BadInput:
    return BadInput(Problem(str(directory), f"a folder with a classifier's {DESCRIPTION} and {WEIGHTS}", got))


def _os_reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _rebuilt(config: TrialConfig, num_classes: int, tensors: dict[str, torch.Tensor]) -> TransferNetwork:
    bare = config.backbone.model_copy(update={"pretrained": False, "checkpoint": None})
    network = build_network(bare, num_classes, config.seed, False)
    own = _kept_tensors(network)
    if tensors.keys() != own.keys():
        raise ValueError(f"weights of another architecture than {config.backbone.name}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    return network.to(memory_format=torch.channels_last) if config.training.channels_last else network


def _kept_tensors(network: TransferNetwork) -> dict[str, torch.Tensor]:
    """Every tensor of the network but the source head's.

    Unlike `state_dict`, with the buffers that are not persistent: the statistics that inputs are normalised with come
    from the pre-training and would be lost.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.detach() for name, tensor in tensors.items() if not name.startswith("source_head.")}
