"""Exported files say what the classifier says, for any number of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables import exporting
from trainables.backbones import build_network
from trainables.backbones.network import TransferNetwork
from trainables.classifier import Classifier
from trainables.config import TrialConfig
from trainables.ensemble import EnsembleNetwork
from trainables.errors import BadInput
from trainables.exporting import ExportDiffers, PixelProgram, export
from trainables.novelty import NoveltyDetector

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cat")
CONFIG = TrialConfig.model_validate(
    {
        "data": {"dataset": "imagefolder", "size_px": 32, "resize_px": 40},
        "backbone": {"name": "timm/test_resnet", "pretrained": False},
        "method": {"name": "l2"},
        "training": {"precision": "bf16"},
    }
)


def network(seed: int) -> TransferNetwork:
    """A network whose probabilities are far from equal."""
    built = build_network(CONFIG.backbone, len(CLASSES), seed, False)
    with torch.no_grad():
        built.target_head.weight.mul_(30)
        for name, buffer in built.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1)
    return built


@pytest.fixture
def classifier() -> Classifier:
    built = network(0)
    known = np.random.default_rng(1).uniform(size=(6, built.backbone.num_features)).astype(np.float16)
    return Classifier(built, CONFIG, CLASSES, CPU, temperature=2.0, novelty=NoveltyDetector(known, 2, 0.4))


@pytest.fixture
def squares() -> np.ndarray:
    """Seven images of the stored size."""
    return np.random.default_rng(3).integers(0, 256, (7, 40, 40, 3), dtype=np.uint8)


def in_float32(classifier: Classifier, squares: np.ndarray) -> np.ndarray:
    """The classifier's answers without autocast, computed from the definitions."""
    crops = torch.from_numpy(squares[:, 4:36, 4:36]).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        logits = classifier.network(classifier.network.embed(crops)).target_logits
    return np.asarray((logits / classifier.temperature).softmax(dim=1))


def similarity_of(classifier: Classifier, squares: np.ndarray) -> np.ndarray:
    """The similarity to known examples, without autocast."""
    assert classifier.novelty is not None
    crops = torch.from_numpy(squares[:, 4:36, 4:36]).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        return np.asarray(classifier.novelty.similarity()(classifier.network(classifier.network.embed(crops)).pooled))


def test_a_torch_program_is_the_classifier(classifier: Classifier, squares: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "new" / "model.pt2"
    exported = export(classifier, "torch_export", file)
    assert exported.max_difference < 1e-5
    program = torch.export.load(file).module()
    for count in (7, 1):
        given = torch.from_numpy(squares[:count, 4:36, 4:36].copy())
        probabilities, similarity = program(given)
        np.testing.assert_allclose(probabilities.detach(), in_float32(classifier, squares)[:count], atol=1e-5)
        np.testing.assert_allclose(similarity.detach(), similarity_of(classifier, squares)[:count], atol=1e-5)
    assert {path.name for path in file.parent.iterdir()} == {"model.pt2", "model.pt2.json"}
    described = json.loads((tmp_path / "new" / "model.pt2.json").read_text())
    assert described["class_names"] == list(CLASSES)
    assert (described["unlike_threshold"], described["temperature"]) == (0.4, 2.0)
    assert (described["similarity_output"], described["similarity_nearest"]) == ("similarity", 2)
    assert described["input"]["shape"] == ["batch", 32, 32, 3]
    assert (described["input"]["resize"], described["input"]["resize_px"]) == ("squash", 40)
    assert described["config"]["training"]["precision"] == "bf16"


@pytest.mark.slow
@pytest.mark.parametrize("num_networks", [1, 2])
def test_an_onnx_program_is_the_classifier(
    classifier: Classifier, num_networks: int, squares: np.ndarray, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    networks = [network(seed) for seed in range(num_networks)]
    of_all = networks[0] if num_networks == 1 else EnsembleNetwork(networks)
    classifier = Classifier(of_all, CONFIG, CLASSES, CPU, novelty=classifier.novelty)
    file = tmp_path / "model.onnx"
    assert export(classifier, "onnx", file).max_difference < exporting.TOLERANCE
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for count in (7, 1):
        pixels = squares[:count, 4:36, 4:36].copy()
        given, similarity = session.run(["probabilities", "similarity"], {"pixels": pixels})
        np.testing.assert_allclose(given, in_float32(classifier, squares)[:count], atol=1e-4)
        np.testing.assert_allclose(similarity, similarity_of(classifier, squares)[:count], atol=1e-4)


def test_safetensors_hold_every_tensor(classifier: Classifier, tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    file = tmp_path / "model.safetensors"
    assert export(classifier, "safetensors", file).max_difference < 1e-7
    tensors = numpy.load_file(file)
    np.testing.assert_array_equal(tensors["target_head.weight"], classifier.network.state_dict()["target_head.weight"])
    assert {"backbone.mean_C11", "backbone.std_C11"} <= set(tensors)
    assert classifier.novelty is not None
    np.testing.assert_array_equal(tensors["known_examples"], classifier.novelty.known)
    described = json.loads((tmp_path / "model.safetensors.json").read_text())
    assert (described["input"], described["similarity_output"]) == (None, None)


def test_a_file_that_says_something_else_is_not_kept(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_text("an earlier one")
    writer = exporting.WRITERS["safetensors"]

    def with_noise(classifier: Classifier, file: Path) -> exporting.Run:
        run = writer(classifier, file)
        return lambda items: [output + np.float32(2e-4) for output in run(items)]

    monkeypatch.setattr(exporting, "WRITERS", {"safetensors": with_noise})
    with pytest.raises(ExportDiffers, match=r"differ from the model's by up to 0\.0002, and 0\.0001 is allowed"):
        export(classifier, "safetensors", file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_text() == "an earlier one"


def test_outputs_that_are_no_numbers_are_refused(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(classifier: Classifier, file: Path) -> exporting.Run:
        shapes = ((3,), ())
        return lambda items: [np.full((len(items), *shape), np.nan, dtype=np.float32) for shape in shapes]

    monkeypatch.setattr(exporting, "WRITERS", {"torch_export": nothing})
    with pytest.raises(ExportDiffers):
        export(classifier, "torch_export", tmp_path / "model.pt2")


def test_missing_packages_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exporting.PACKAGES, "onnx", ("torch", "no_such_package"))
    with pytest.raises(BadInput, match=r"smile-tuner\[export\].*, got no no_such_package"):
        exporting.require_packages("onnx")


def test_the_program_takes_pixels_of_any_batch(classifier: Classifier) -> None:
    program = PixelProgram(classifier).eval()
    with torch.inference_mode():
        probabilities, similarity = program(torch.zeros((0, 32, 32, 3), dtype=torch.uint8))
    assert (probabilities.shape, similarity.shape) == ((0, 3), (0,))
