"""Trained classifiers: a folder with weights and description, and predictions for images or texts.

    weights.pt         backbone and target head, tensors only; of an ensemble of probabilities those of every network
    classifier.json    configuration, class names, number of networks, versions of the packages

The folder needs no other file, except for a model of texts: the configuration and the tokenizer of its backbone are
read from the installed package, or from the cache of the Hugging Face hub. MLflow stores the same folder as a model,
and loads it by `_load_pyfunc`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from trainables.backbones import build_network
from trainables.backbones.network import TransferNetwork
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.examples import Examples, as_inputs
from trainables.data.images import LabelledImages
from trainables.data.texts import LabelledTexts
from trainables.ensemble import EnsembleNetwork
from trainables.errors import BadInput, Problem, first_line, os_reason
from trainables.files import atomic_file, placeholder, write_whole
from trainables.prediction_inputs import Item, as_items, decode_items, text_problems
from trainables.training.evaluation import predicted_probabilities
from trainables.trial import default_device

Network = TransferNetwork | EnsembleNetwork

WEIGHTS = "weights.pt"
DESCRIPTION = "classifier.json"
PACKAGES = ("smile-tuner", "torch", "torchvision", "timm", "numpy", "pillow")
"""Packages that a prediction depends on, whose versions are recorded in a classifier's folder for information."""
SOURCE_HEAD = re.compile(r"(^|\.)source_head\.")
TEXT_PACKAGES = ("transformers", "tokenizers")
"""Further packages of a model of texts."""

LABEL = "label"
PROBABILITY = "probability"
CLASS_PREFIX = "probability/"
"""Prefix of the columns of probabilities, so that no class name equals another column."""


def save_classifier(directory: Path, network: Network, config: TrialConfig, class_names: Sequence[str]) -> None:
    """Writes `network`, without source heads, to the folder `directory`.

    The description is written last: a folder with it is complete.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_file(directory / WEIGHTS) as file:
        torch.save(_kept_tensors(network), file)
    description = {
        "class_names": list(class_names),
        "num_networks": len(network.networks) if isinstance(network, EnsembleNetwork) else 1,
        "config": config.model_dump(mode="json"),
        "versions": {name: version(name) for name in PACKAGES + (TEXT_PACKAGES if config.data.has_texts else ())},
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    write_whole(directory / DESCRIPTION, text.encode())


def set_temperature(directory: Path, temperature: float) -> None:
    """Makes the classifier in `directory` divide its logits by `temperature`, which was fitted on predictions out of
    fold. Raises OSError and ValueError."""
    description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    description["temperature"] = temperature
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    write_whole(directory / DESCRIPTION, text.encode())


class Classifier:
    """A trained network that predicts classes of images or texts, preprocessed as in the evaluation of the search.

    >>> from trainables.backbones import BackboneConfig
    >>> config = TrialConfig.model_validate({
    ...     "data": {"dataset": "imagefolder", "size_px": 32},
    ...     "backbone": {"name": "package/efficientnet_lite0", "pretrained": False},
    ...     "method": {"name": "l2"},
    ... })
    >>> network = build_network(config.backbone, num_classes=2, seed=0, keep_source_head=False)
    >>> classifier = Classifier(network, config, ["apple", "pear"], torch.device("cpu"))
    >>> images = np.zeros((3, 64, 48, 3), dtype=np.uint8)  # or a list of paths
    >>> classifier.predict_proba(images).shape
    (3, 2)
    >>> list(classifier.predict(images).columns)
    ['label', 'probability', 'probability/apple', 'probability/pear']
    """

    def __init__(self, network: Network, config: TrialConfig, class_names: Sequence[str], device: torch.device) -> None:
        self.class_names = tuple(class_names)
        self.config = config
        self.network = network.to(device).eval()
        self._device = device

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | None = None) -> Classifier:
        """Loads a folder that `save_classifier` wrote, without any download.

        Raises BadInput if `directory` holds no classifier that this version can read.
        """
        directory = Path(directory)
        try:
            description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
            tensors = torch.load(directory / WEIGHTS, map_location="cpu", weights_only=True)
            config = TrialConfig.model_validate(description["config"])
            num_networks = description.get("num_networks", 1)  # files of an earlier version do not say it
            network = _rebuilt(config, len(description["class_names"]), num_networks, tensors)
        except OSError as error:
            raise _no_classifier(directory, f"{os_reason(error)} ({error.filename})") from None
        except (ValueError, KeyError, RuntimeError, EOFError, UnpicklingError) as error:
            said = placeholder(directory / DESCRIPTION) or placeholder(directory / WEIGHTS)
            raise _no_classifier(directory, said or first_line(error)) from None
        return cls(network, config, description["class_names"], device or default_device())

    def predict_proba(self, images: Any) -> NDArray[np.float32]:
        """Class probabilities N×K, in the order of `class_names`.

        `images` are a list, Series, one-dimensional array or DataFrame column of paths, of image files as bytes, or of
        integer arrays H×W×3 in 0…255; or one array N×H×W×3; or a single image. For a model of texts they are strings,
        or one string. Raises BadInput with every input that cannot be read.
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
        """Predictions with one row for each input: `label`, `probability`, and `probability/<class>` for every class.

        Takes the inputs of `predict_proba`, with its errors.
        """
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
        """The items as examples without labels, and the problems of those that cannot be read."""
        no_labels = np.zeros(len(items), dtype=np.int64)
        if self.config.data.has_texts:
            texts = LabelledTexts.of([str(item) for item in items], no_labels, self.class_names)
            return texts, text_problems(items, first)
        pixels, problems = decode_items(items, first, self.config.data.stored_px, self.config.data.resize)
        return LabelledImages.of(pixels, no_labels, self.class_names), problems

    def _probabilities(self, examples: Examples) -> NDArray[np.float32]:
        inputs = as_inputs(examples, self.config.data, self.network.backbone.tokenizer)
        training = self.config.training
        batches = evaluation_batches(inputs, self.config.data, training.eval_batch_size, self._device)
        probabilities, _ = predicted_probabilities(self.network, batches, training, self._device)
        return np.asarray(probabilities, dtype=np.float32)


def _load_pyfunc(path: str) -> Classifier:
    """Loads the classifier in a folder of MLflow's, which calls this function."""
    return Classifier.load(path)


def _no_classifier(directory: Path, got: str) -> BadInput:
    return BadInput(Problem(str(directory), f"a folder with a classifier's {DESCRIPTION} and {WEIGHTS}", got))


def _rebuilt(config: TrialConfig, num_classes: int, num_networks: int, tensors: dict[str, torch.Tensor]) -> Network:
    bare = config.backbone.model_copy(update={"pretrained": False, "checkpoint": None})
    networks = [build_network(bare, num_classes, config.seed, False) for _ in range(num_networks)]
    network = networks[0] if num_networks == 1 else EnsembleNetwork(networks)
    own = _kept_tensors(network)
    if tensors.keys() != own.keys():
        raise ValueError(f"weights of another architecture than {config.backbone.name}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    return network.to(memory_format=torch.channels_last) if config.training.channels_last else network


def _kept_tensors(network: Network) -> dict[str, torch.Tensor]:
    """All tensors of the network but those of source heads.

    Unlike `state_dict`, they include the buffers that are not persistent: the mean and deviation that inputs are
    normalised by, which belong to the pre-training.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.detach() for name, tensor in tensors.items() if not SOURCE_HEAD.search(name)}
