"""Trained classifiers: a folder with weights and description, and predictions for images or texts.

    weights.pt         backbone and target head, tensors only; of an ensemble of probabilities those of every network
    classifier.json    configuration, class names, number of networks, calibration, versions of the packages
    known.npz          features of known examples, of a classifier that says what is unlike anything seen

The folder needs no other file, except for a model of texts: the configuration and the tokenizer of its backbone are
read from the installed package, or from the cache of the Hugging Face hub. MLflow stores the same folder as a model,
and loads it by `_load_pyfunc`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from trainables.backbones import build_network
from trainables.backbones.network import TransferNetwork
from trainables.calibration import with_temperature
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.examples import Examples, as_inputs
from trainables.data.images import LabelledImages
from trainables.data.texts import LabelledTexts
from trainables.device import default_device
from trainables.ensemble import EnsembleNetwork
from trainables.errors import BadInput, Problem, first_line, os_reason
from trainables.files import atomic_file, placeholder, write_whole
from trainables.frozen import Frozen
from trainables.novelty import NoveltyDetector, read_known, write_known
from trainables.predicted_chunk import PredictedChunk, joined
from trainables.prediction_inputs import Item, Source, as_items, decode_items, text_problems
from trainables.training.evaluation import Evaluated, evaluated

Network = TransferNetwork | EnsembleNetwork

WEIGHTS = "weights.pt"
DESCRIPTION = "classifier.json"
KNOWN = "known.npz"
PACKAGES = ("smile-tuner", "torch", "torchvision", "timm", "numpy", "pillow")
"""Packages that a prediction depends on, whose versions are recorded in a classifier's folder for information."""
SOURCE_HEAD = re.compile(r"(^|\.)source_head\.")
TEXT_PACKAGES = ("transformers", "tokenizers")
"""Further packages of a model of texts."""

LABEL = "label"
PROBABILITY = "probability"
UNLIKE = "unlike"
"""Column of a calibrated classifier: whether the input is unlike anything seen."""
CLASS_PREFIX = "probability/"
"""Prefix of the columns of probabilities, so that no class name equals another column."""


class ClassifierDescription(Frozen):
    """Content of `classifier.json`."""

    class_names: tuple[str, ...]
    num_networks: PositiveInt = 1
    """Number of networks, whose mean probabilities are predicted."""
    config: TrialConfig
    temperature: PositiveFloat = 1.0
    """Divisor of the logits; see `with_temperature`."""
    unlike_threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Similarity to known examples below which an input is unlike anything seen; see `trainables.novelty`. None if it
    was not calibrated."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages that a prediction depends on, for information."""


def save_classifier(directory: Path, network: Network, config: TrialConfig, class_names: Sequence[str]) -> None:
    """Writes `network`, without source heads, to the folder `directory`.

    The description is written last: a folder with it is complete.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_file(directory / WEIGHTS) as file:
        torch.save(kept_tensors(network), file)
    packages = PACKAGES + (TEXT_PACKAGES if config.data.has_texts else ())
    description = ClassifierDescription(
        class_names=tuple(class_names),
        num_networks=len(network.networks) if isinstance(network, EnsembleNetwork) else 1,
        config=config,
        versions={name: version(name) for name in packages},
    )
    _write_description(directory, description)


def set_temperature(directory: Path, temperature: float) -> None:
    """Makes the classifier in `directory` divide its logits by `temperature`, which was fitted on predictions out of
    fold.

    Raises BadInput if `directory` holds no classifier, OSError, and ValueError unless `temperature` is above 0.
    """
    _change_description(directory, "temperature", temperature)


def set_novelty(directory: Path, detector: NoveltyDetector | None) -> None:
    """Makes the classifier in `directory` say by `detector` which inputs are unlike anything seen; None: not at all.

    Raises BadInput if `directory` holds no classifier, OSError, and ValueError unless the threshold is in [−1, 1].
    """
    if detector is None:
        _change_description(directory, "unlike_threshold", None)
        (directory / KNOWN).unlink(missing_ok=True)
    else:
        write_known(directory / KNOWN, detector)
        _change_description(directory, "unlike_threshold", detector.threshold)


def read_description(directory: Path) -> ClassifierDescription:
    """Reads the description of the classifier in `directory`. Raises BadInput if there is none."""
    try:
        return ClassifierDescription.model_validate_json((directory / DESCRIPTION).read_bytes())
    except OSError as error:
        raise _no_classifier(directory, f"{os_reason(error)} ({error.filename})") from None
    except ValidationError as error:
        raise _no_classifier(directory, placeholder(directory / DESCRIPTION) or _first_mistake(error)) from None


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

    def __init__(
        self,
        network: Network,
        config: TrialConfig,
        class_names: Sequence[str],
        device: torch.device,
        temperature: float = 1.0,
        novelty: NoveltyDetector | None = None,
        source: Source = "user",
    ) -> None:
        """Takes the network to `device`. Inputs of another `source` than the user are never opened as paths."""
        self.class_names = tuple(class_names)
        self.config = config
        self.network = network.to(device).eval()
        self.temperature = temperature
        self.novelty = novelty
        self._similarity = None if novelty is None else novelty.similarity()
        self._device = device
        self._source = source

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | None = None, source: Source = "user") -> Classifier:
        """Loads a folder that `save_classifier` wrote, without any download.

        Raises BadInput if `directory` holds no classifier that this version can read.
        """
        directory = Path(directory)
        description = read_description(directory)
        try:
            tensors = torch.load(directory / WEIGHTS, map_location="cpu", weights_only=True)
            network = rebuilt_network(description, tensors)
            novelty = _novelty_in(directory, description, network.backbone.num_features)
        except OSError as error:
            raise _no_classifier(directory, f"{os_reason(error)} ({error.filename})") from None
        except (ValueError, KeyError, RuntimeError, EOFError, UnpicklingError) as error:
            raise _no_classifier(directory, placeholder(directory / WEIGHTS) or first_line(error)) from None
        device, config = device or default_device(), description.config
        return cls(network, config, description.class_names, device, description.temperature, novelty, source)

    @property
    def description(self) -> ClassifierDescription:
        """What `classifier.json` says of it, without the versions of the packages."""
        num_networks = len(self.network.networks) if isinstance(self.network, EnsembleNetwork) else 1
        return ClassifierDescription(
            class_names=self.class_names,
            num_networks=num_networks,
            config=self.config,
            temperature=self.temperature,
            unlike_threshold=None if self.novelty is None else self.novelty.threshold,
        )

    def predict_proba(self, images: Any) -> NDArray[np.float32]:
        """Class probabilities N×K, in the order of `class_names`.

        `images` are a list, Series, one-dimensional array or DataFrame column of paths, of image files as bytes, or of
        integer arrays H×W×3 in 0…255; or one array N×H×W×3; or a single image. For a model of texts they are strings,
        or one string. Raises BadInput with every input that cannot be read.
        """
        return self._predicted(images).probabilities

    def predict_chunks(self, images: Any) -> Iterator[PredictedChunk]:
        """Yields the predictions of `predict_proba` for `training.eval_batch_size` inputs after the other, without an
        error for those that cannot be read."""
        items = list(as_items(images))
        size = self.config.training.eval_batch_size
        for start in range(0, len(items), size):
            examples, problems = self._read(items[start : start + size], start)
            found = self._evaluated(examples)
            probabilities = with_temperature(found.probabilities.numpy(), self.temperature)
            similarity = None if self._similarity is None else self._similarity(found.pooled).numpy()
            for values in (probabilities, similarity):
                if values is not None:
                    values[list(problems)] = np.nan
            yield PredictedChunk(probabilities, problems, similarity)

    @property
    def no_predictions(self) -> PredictedChunk:
        """Predictions for no input."""
        probabilities = np.empty((0, len(self.class_names)), dtype=np.float32)
        return PredictedChunk(probabilities, {}, None if self.novelty is None else np.empty(0, dtype=np.float32))

    def is_unlike(self, predicted: PredictedChunk) -> NDArray[np.bool_] | None:
        """Whether each input is unlike anything seen, which about `FALSE_ALARM_RATE` of the inputs of the known classes
        are called, too; one that cannot be read is not. None if the classifier is not calibrated."""
        if self.novelty is None or predicted.similarity is None:
            return None
        return np.asarray(predicted.similarity < self.novelty.threshold)

    def predict(self, images: Any) -> pd.DataFrame:
        """Predictions with one row for each input: `label`, `probability`, and `probability/<class>` for every class;
        of a calibrated classifier also `unlike`, whether the input is unlike anything seen.

        Takes the inputs of `predict_proba`, with its errors.
        """
        predicted = self._predicted(images)
        probabilities = predicted.probabilities
        best = probabilities.argmax(axis=1)
        columns = {
            LABEL: np.array(self.class_names, dtype=object)[best],
            PROBABILITY: probabilities.max(axis=1, initial=0),
        }
        if (unlike := self.is_unlike(predicted)) is not None:
            columns[UNLIKE] = unlike
        for k, name in enumerate(self.class_names):
            columns[CLASS_PREFIX + name] = probabilities[:, k]
        return pd.DataFrame(columns)

    def _read(self, items: Sequence[Item], first: int) -> tuple[Examples, dict[int, Problem]]:
        """The items as examples without labels, and the problems of those that cannot be read, by position."""
        no_labels = np.zeros(len(items), dtype=np.int64)
        if self.config.data.has_texts:
            texts = LabelledTexts.of([str(item) for item in items], no_labels, self.class_names)
            return texts, text_problems(items, first)
        data = self.config.data
        pixels, problems = decode_items(items, first, data.stored_px, data.resize, self._source)
        return LabelledImages.of(pixels, no_labels, self.class_names), problems

    def _predicted(self, images: Any) -> PredictedChunk:
        """All predictions. Raises BadInput with every input that cannot be read."""
        predicted = joined([self.no_predictions, *self.predict_chunks(images)])
        if predicted.problems:
            raise BadInput(predicted.problems.values())
        return predicted

    def _evaluated(self, examples: Examples) -> Evaluated:
        inputs = as_inputs(examples, self.config.data, self.network.backbone.tokenizer)
        training = self.config.training
        if training.precision == "fp16" and self._device.type == "cpu":  # which is slow in it
            training = training.model_copy(update={"precision": "fp32"})
        batches = evaluation_batches(inputs, self.config.data, training.eval_batch_size, self._device)
        return evaluated(self.network, batches, training, self._device)


def _load_pyfunc(path: str) -> Classifier:
    """Loads the classifier in a folder of MLflow's, which calls this function.

    It takes the inputs of a model server's clients, so that no path is opened: images are bytes, or their base64, or
    pixels.
    """
    return Classifier.load(path, source="request")


def rebuilt_network(description: ClassifierDescription, tensors: Mapping[str, torch.Tensor]) -> Network:
    """The network of a classifier, with `tensors` as of `kept_tensors`.

    Raises ValueError if they are those of another architecture.
    """
    config = description.config
    bare = config.backbone.model_copy(update={"pretrained": False, "checkpoint": None})
    num_classes, num_networks = len(description.class_names), description.num_networks
    networks = [build_network(bare, num_classes, config.seed, False) for _ in range(num_networks)]
    network = networks[0] if num_networks == 1 else EnsembleNetwork(networks)
    own = kept_tensors(network)
    if tensors.keys() != own.keys():
        raise ValueError(f"weights of another architecture than {config.backbone.name}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    return network.to(memory_format=torch.channels_last) if config.training.channels_last else network


def kept_tensors(network: Network) -> dict[str, torch.Tensor]:
    """All tensors of the network but those of source heads.

    Unlike `state_dict`, they include the buffers that are not persistent: the mean and deviation that inputs are
    normalised by, which belong to the pre-training.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.detach() for name, tensor in tensors.items() if not SOURCE_HEAD.search(name)}


def _novelty_in(directory: Path, description: ClassifierDescription, num_features: int) -> NoveltyDetector | None:
    """The detector of a classifier's folder. None where there is none, or only the threshold of an earlier version, on
    probabilities. Raises OSError, and ValueError if it is none of so many features."""
    file, threshold = directory / KNOWN, description.unlike_threshold
    if threshold is None or not file.exists():
        return None
    detector = read_known(file, threshold)
    if detector.known.shape[1] != num_features:
        raise ValueError(f"{KNOWN} with {detector.known.shape[1]} features, where the network has {num_features}")
    return detector


def _change_description(directory: Path, key: str, value: float | None) -> None:
    changed = dict(read_description(directory)) | {key: value}
    _write_description(directory, ClassifierDescription.model_validate(changed))


def _write_description(directory: Path, description: ClassifierDescription) -> None:
    write_whole(directory / DESCRIPTION, f"{description.model_dump_json(indent=2)}\n".encode())


def _no_classifier(directory: Path, got: str) -> BadInput:
    return BadInput(Problem(str(directory), f"a folder with a classifier's {DESCRIPTION} and {WEIGHTS}", got))


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, mistake["loc"]))
    return f"{DESCRIPTION} with {f'{place}: ' if place else ''}{mistake['msg']}"
