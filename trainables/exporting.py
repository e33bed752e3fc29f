"""Classifiers in the formats of other programs: ONNX, `torch.export`, safetensors.

The exported program takes pixels and gives probabilities, of a calibrated classifier also the similarity to known
examples: normalisation, networks, temperature, softmax and known examples are in it, in float32. Decoding, resizing and
cropping are no operations on tensors; a JSON file beside the program says how they are done, and the names of the
classes. No file counts as exported before its outputs were compared with the classifier's own.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.classifier import Classifier, kept_tensors, rebuilt_network
from trainables.data.images import Pixels
from trainables.errors import BadInput, Problem
from trainables.files import write_whole
from trainables.frozen import Frozen
from trainables.predicted_chunk import joined
from trainables.prediction_inputs import Item
from trainables.seeding import rng_for
from trainables.types import Outputs

Format = Literal["onnx", "torch_export", "safetensors"]
FORMATS: tuple[Format, ...] = get_args(Format)

SUFFIXES: Mapping[Format, str] = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
PACKAGES: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch_export": (),
    "safetensors": ("safetensors",),
}
"""Packages that a format needs, which are in the extra `export`."""

TOLERANCE = 1e-4
"""Largest difference of a probability, or of a similarity, between the exported program and the classifier."""
NUM_SAMPLES = 5
INPUT, OUTPUT = "pixels", "probabilities"
SIMILARITY = "similarity"
"""Second output, of a calibrated classifier: similarity to known examples; see `trainables.novelty`."""
KNOWN_TENSOR = "known_examples"
"""Name of the features of known examples in a file of tensors."""
BATCH = "batch"
"""Name of the dimension of the batch, which may have any size."""

Run = Callable[[Sequence[Item]], Sequence[NDArray[np.float32]]]
"""Function that predicts with a written file: probabilities N×K, and of a calibrated classifier similarities N. An item
is a square of the stored size, uint8 side×side×3, or a sentence."""


class ExportDiffers(Exception):
    """Error for an exported file whose outputs are not those of the classifier. It is not kept."""

    def __init__(self, file: Path, difference: float) -> None:
        self.difference = difference
        message = f"{file.name} is not kept: its outputs differ from the model's by up to {difference:.2g}"
        super().__init__(f"{message}, and {TOLERANCE:g} is allowed")


class ImageInput(Frozen):
    """How an image becomes the input of the exported program."""

    name: str = INPUT
    dtype: Literal["uint8"] = "uint8"
    shape: tuple[str | int, ...]
    """Batch, height, width, RGB; the batch has any size."""
    orientation: str = "upright, by the EXIF tag"
    transparent: str = "on white"
    resize: Literal["squash", "short_side"]
    """`squash` resizes to a square; `short_side` keeps the aspect ratio and cuts the centre square."""
    resize_px: int
    """Side of the square."""
    interpolation: str = "bicubic, with antialiasing (Pillow)"
    centre_crop_px: int
    """Side of the centre crop of the square."""
    normalisation: str = "in the program: values are from 0 to 255"


class ExportedModel(Frozen):
    """Content of the JSON file beside an exported file."""

    file: str
    format: Format
    input: ImageInput | None
    """None for a model of texts, and for weights without a program: `config` says more."""
    output: str = OUTPUT
    """Probabilities, batch × classes, in the order of `class_names`."""
    similarity_output: str | None
    """Similarity to known examples, batch; None if it was not calibrated, and for weights without a program."""
    similarity_nearest: int | None
    """Which nearest known example the similarity is with; None if it was not calibrated."""
    class_names: tuple[str, ...]
    unlike_threshold: float | None
    """Similarity below which an input is unlike anything seen; None if it was not calibrated."""
    temperature: float
    """Divisor of the logits; it is in the program."""
    max_difference: float
    """Largest difference of a probability or similarity from the classifier's, on the sample that was compared."""
    num_networks: int
    config: dict[str, Any]
    """The configuration of the training."""


class PixelProgram(nn.Module):
    """The network of a classifier of images as one program: uint8 pixels N×S×S×3 → probabilities N×K, and of a
    calibrated one similarities N."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier.network
        self.temperature = classifier.temperature
        self.similarity = None if classifier.novelty is None else classifier.novelty.similarity()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        images = pixels.permute(0, 3, 1, 2).float()
        outputs: Outputs = self.network(self.network.embed(images))
        probabilities = (outputs.target_logits / self.temperature).softmax(dim=1)
        return (probabilities,) if self.similarity is None else (probabilities, self.similarity(outputs.pooled))


def export(classifier: Classifier, to: Format, file: Path) -> ExportedModel:
    """Writes the classifier to `file` in the format `to`, and its description beside it as JSON.

        exported = export(Classifier.load("model"), "onnx", Path("model.onnx"))
        print(exported.max_difference)

    The classifier's network is moved to the CPU.

    Raises:
        BadInput: if the format's packages are not installed, or there is no program of its kind of inputs.
        ExportDiffers: if the outputs are not those of the classifier, by more than `TOLERANCE`.
        OSError: if the files cannot be written.
    """
    require_packages(to)
    if classifier.config.data.has_texts and to != "safetensors":
        raise BadInput(Problem("--to", "safetensors for a model of texts, whose tokens are made outside", to))
    plain = _in_float32(classifier)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=file.parent) as folder:
        run = WRITERS[to](plain, Path(folder, file.name))
        difference = _largest_difference(plain, run)
        if not difference <= TOLERANCE:  # also if it is not a number
            raise ExportDiffers(file, difference)
        for part in Path(folder).iterdir():  # a large ONNX file has its weights in another one
            part.replace(file.parent / part.name)
    exported = _described(classifier, to, file, difference)
    write_whole(description_file(file), f"{exported.model_dump_json(indent=2)}\n".encode())
    return exported


def description_file(file: Path) -> Path:
    """The JSON file beside an exported file: `model.onnx.json`."""
    return file.with_name(f"{file.name}.json")


def require_packages(to: Format) -> None:
    """Imports the packages that a format needs. Raises BadInput with those that are missing, and their extra."""
    missing = [name for name in PACKAGES[to] if not _can_be_imported(name)]
    if missing:
        expected = f"the packages of {to} (pip install 'smile-tuner[export]')"
        raise BadInput(Problem("--to", expected, f"no {', '.join(missing)}"))


def _can_be_imported(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _in_float32(classifier: Classifier) -> Classifier:
    """The same classifier on the CPU without autocast, as the exported program computes."""
    config = classifier.config
    training = config.training.model_copy(update={"precision": "fp32"})
    return Classifier(
        classifier.network.to(memory_format=torch.contiguous_format),
        config.model_copy(update={"training": training}),
        classifier.class_names,
        torch.device("cpu"),
        classifier.temperature,
        classifier.novelty,
    )


def _sample(classifier: Classifier) -> Sequence[Item]:
    """Inputs to compare outputs on: images from dark to bright, of noise and of gradients; or sentences."""
    if classifier.config.data.has_texts:
        return ["a film", "a fine film of many words, none of which is new", "", "dull", "good !"]
    side, rng = classifier.config.data.stored_px, rng_for(0, "export_sample")
    ramp = np.linspace(0, 1, side)[:, None, None] * np.linspace(1, 0.2, side)[None, :, None]
    noise = rng.uniform(size=(NUM_SAMPLES, side, side, 3))
    levels = np.linspace(0.1, 1, NUM_SAMPLES)[:, None, None, None]
    return list((255 * levels * (0.6 * ramp + 0.4 * noise)).astype(np.uint8))


def _largest_difference(classifier: Classifier, run: Run) -> float:
    """Largest difference of an output on the sample, of which one input is also given alone."""
    sample = _sample(classifier)
    expected = _outputs(classifier, sample)
    pairs = [*zip(run(sample), expected, strict=True)]
    pairs += [(alone, among[:1]) for alone, among in zip(run(sample[:1]), expected, strict=True)]
    return float(np.max([np.abs(found - output).max() for found, output in pairs]))  # NaN if one is


def _outputs(classifier: Classifier, items: Sequence[Item]) -> list[NDArray[np.float32]]:
    predicted = joined(classifier.predict_chunks(list(items)))
    return [predicted.probabilities, *([] if predicted.similarity is None else [predicted.similarity])]


def _centre(classifier: Classifier, items: Sequence[Item]) -> Pixels:
    """Centre crops N×S×S×3 of squares of the stored size."""
    data = classifier.config.data
    start = (data.stored_px - data.size_px) // 2
    return np.stack(items)[:, start : start + data.size_px, start : start + data.size_px]


def _program_of(classifier: Classifier) -> torch.export.ExportedProgram:
    side = classifier.config.data.size_px
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        return torch.export.export(
            PixelProgram(classifier).eval(), (example,), dynamic_shapes={INPUT: {0: torch.export.Dim(BATCH)}}
        )


def _write_torch_export(classifier: Classifier, file: Path) -> Run:
    torch.export.save(_program_of(classifier), file)
    program = torch.export.load(file).module()

    def run(items: Sequence[Item]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [np.asarray(output) for output in program(torch.from_numpy(_centre(classifier, items)))]

    return run


def _write_onnx(classifier: Classifier, file: Path) -> Run:
    import onnxruntime

    outputs = [OUTPUT] if classifier.novelty is None else [OUTPUT, SIMILARITY]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _program_of(classifier), input_names=[INPUT], output_names=outputs, dynamo=True, verbose=False
        )
    assert program is not None
    program.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(items: Sequence[Item]) -> list[NDArray[np.float32]]:
        return [np.asarray(output) for output in session.run(outputs, {INPUT: _centre(classifier, items)})]

    return run


def _write_safetensors(classifier: Classifier, file: Path) -> Run:
    from safetensors.torch import load_file, save

    tensors = {name: tensor.contiguous().clone() for name, tensor in kept_tensors(classifier.network).items()}
    if classifier.novelty is not None:
        tensors[KNOWN_TENSOR] = torch.from_numpy(classifier.novelty.known)
    write_whole(file, save(tensors, metadata={"format": "pt"}))  # `save_file` lets nobody else read it
    tensors, novelty = load_file(file), classifier.novelty
    if novelty is not None:
        novelty = replace(novelty, known=tensors.pop(KNOWN_TENSOR).numpy())
    network, config = rebuilt_network(classifier.description, tensors), classifier.config
    names, cpu = classifier.class_names, torch.device("cpu")
    return partial(_outputs, Classifier(network, config, names, cpu, classifier.temperature, novelty))


WRITERS: Mapping[Format, Callable[[Classifier, Path], Run]] = {
    "onnx": _write_onnx,
    "torch_export": _write_torch_export,
    "safetensors": _write_safetensors,
}
"""Writer of each format, which returns a function that predicts with the written file."""


def _described(classifier: Classifier, to: Format, file: Path, difference: float) -> ExportedModel:
    data, has_program = classifier.config.data, to != "safetensors"
    image_input = ImageInput(
        shape=(BATCH, data.size_px, data.size_px, 3),
        resize=data.resize,
        resize_px=data.stored_px,
        centre_crop_px=data.size_px,
    )
    described = classifier.description
    return ExportedModel(
        file=file.name,
        format=to,
        input=image_input if has_program else None,
        similarity_output=SIMILARITY if has_program and classifier.novelty is not None else None,
        similarity_nearest=None if classifier.novelty is None else classifier.novelty.nearest,
        class_names=described.class_names,
        unlike_threshold=described.unlike_threshold,
        temperature=described.temperature,
        max_difference=difference,
        num_networks=described.num_networks,
        config=described.config.model_dump(mode="json"),
    )
