"""A saved classifier predicts as the network, for images in any form, and names those that it cannot read."""

from __future__ import annotations

import base64
import io
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from trainables.backbones import TransferNetwork, build_network
from trainables.calibration import with_temperature
from trainables.classifier import (
    DESCRIPTION,
    KNOWN,
    WEIGHTS,
    Classifier,
    _load_pyfunc,
    read_description,
    save_classifier,
    set_novelty,
    set_temperature,
)
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.images import LabelledImages
from trainables.errors import BadInput
from trainables.methods.stoch_norm import StochNormConfig, make_stochastic
from trainables.novelty import NoveltyDetector, directions
from trainables.probe import fit_probe, pooled_features
from trainables.training.evaluation import predicted_probabilities
from trainables.trial import train_full

CLASSES = ("cat", "dog", "label")
CPU = torch.device("cpu")


def make_config(**data: object) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"dataset": "digits", "size_px": 64, "resize_px": 72, **data},
            "backbone": {"name": "timm/test_resnet", "pretrained": False},
            "method": {"name": "l2"},
            "training": {"eval_batch_size": 2},
        }
    )


@pytest.fixture
def config() -> TrialConfig:
    return make_config()


@pytest.fixture
def network(config: TrialConfig) -> TransferNetwork:
    network = build_network(config.backbone, len(CLASSES), 5, False)
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean") or name.endswith("_C11"):
                buffer.add_(0.3)  # so that a buffer that is lost shows
    return network


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 90, 80, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, network: TransferNetwork, config: TrialConfig) -> Path:
    save_classifier(tmp_path / "model", network, config, CLASSES)
    return tmp_path / "model"


@pytest.fixture
def classifier(folder: Path) -> Classifier:
    return Classifier.load(folder, CPU)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_it_says_what_the_network_said_in_evaluation(
    classifier: Classifier, network: TransferNetwork, config: TrialConfig
) -> None:
    stored = np.random.default_rng(1).integers(0, 256, (5, 72, 72, 3), dtype=np.uint8)
    images = LabelledImages.of(stored, np.zeros(5, dtype=np.int64), CLASSES)
    batches = evaluation_batches(images, config.data, 2, CPU)
    expected, _ = predicted_probabilities(network, batches, config.training, CPU)
    np.testing.assert_allclose(classifier.predict_proba(stored), expected, rtol=1e-5, atol=1e-6)


def test_a_network_with_stochastic_norms_is_rebuilt_with_plain_ones(tmp_path: Path, config: TrialConfig) -> None:
    network = build_network(config.backbone, len(CLASSES), 5, False)
    for norm in make_stochastic(network.backbone):
        norm.running_mean.add_(0.3)
        norm.running_var.mul_(1.5)
    config = config.model_copy(update={"method": StochNormConfig()})
    save_classifier(tmp_path, network, config, CLASSES)
    stored = np.random.default_rng(1).integers(0, 256, (5, 72, 72, 3), dtype=np.uint8)
    expected = Classifier(network, config, CLASSES, CPU).predict_proba(stored)
    np.testing.assert_allclose(Classifier.load(tmp_path, CPU).predict_proba(stored), expected, rtol=1e-5, atol=1e-6)


def test_a_linear_probe_is_a_model_too(tmp_path: Path) -> None:
    """Trained for no step, saved, loaded, and asked: the answers are those of logistic regression on its features."""
    stored = np.random.default_rng(1).integers(0, 256, (12, 72, 72, 3), dtype=np.uint8)
    images = LabelledImages.of(stored, np.arange(12) % 3, CLASSES)
    probe_alone = {
        "method": {"name": "feature_extraction", "backbone_mode": "eval"},
        "training": {"num_steps": 0, "head_init": "probe"},
    }
    config = TrialConfig.model_validate(make_config().model_dump() | probe_alone)
    network, fit = train_full(config, images, CPU)
    assert fit.step == 0
    save_classifier(tmp_path, network, config, CLASSES)
    probe = fit_probe(pooled_features(network, images, config, CPU), images.labels, 3)
    unseen = images.take([5, 1, 8])
    expected = torch.from_numpy(probe.logits(pooled_features(network, unseen, config, CPU))).softmax(dim=1)
    classifier = Classifier.load(tmp_path, CPU)
    assert classifier.config == config
    np.testing.assert_allclose(classifier.predict_proba(stored[[5, 1, 8]]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resize", ["squash", "short_side"])
def test_every_form_of_an_image_is_the_same_image(tmp_path: Path, pixels: np.ndarray, resize: str) -> None:
    config = make_config(resize=resize)
    classifier = Classifier(build_network(config.backbone, 3, 5, False), config, CLASSES, CPU)
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path, image in zip(paths, pixels, strict=True):
        Path(path).write_bytes(png(image))
    expected = classifier.predict_proba(pixels)
    assert expected.shape == (3, 3)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    forms = [
        list(pixels),
        paths,
        [Path(path) for path in paths],
        np.array(paths),
        pd.Series(paths),
        pd.DataFrame({"image": paths, "taken": [1, 2, 3]}),
        pd.DataFrame({"anything": paths}),
        [png(image) for image in pixels],
        pixels.astype(np.int64),  # as JSON brings them
        pixels.tolist(),
        [paths[0], png(pixels[1]), pixels[2]],
    ]
    for form in forms:
        np.testing.assert_array_equal(classifier.predict_proba(form), expected)
    for single in (paths[0], png(pixels[0]), pixels[0]):
        np.testing.assert_allclose(classifier.predict_proba(single), expected[:1], rtol=1e-5, atol=1e-6)


def test_no_images_are_no_rows(classifier: Classifier) -> None:
    assert classifier.predict_proba([]).shape == (0, 3)
    assert len(classifier.predict([])) == 0


def test_a_class_may_have_the_name_of_a_column(classifier: Classifier, pixels: np.ndarray) -> None:
    frame = classifier.predict(pixels)
    assert list(frame.columns) == ["label", "probability", "probability/cat", "probability/dog", "probability/label"]
    for _, row in frame.iterrows():
        assert row["probability"] == row[f"probability/{row['label']}"] == max(row.iloc[2:])


def test_every_unreadable_image_is_named(classifier: Classifier, tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    images = [pixels[0], "gone.jpg", b"", str(tmp_path / "text.jpg"), np.zeros((4, 4)), pixels[0] / 255, pixels[1]]
    images.append(np.full((4, 4, 3), 300))
    with pytest.raises(BadInput) as raised:
        classifier.predict_proba(images)
    assert [str(problem) for problem in raised.value.problems] == [
        "gone.jpg: expected an image file, got no such file or directory",
        "image 2: expected an image file, got a format that Pillow does not know",
        f"{tmp_path / 'text.jpg'}: expected an image file, got a format that Pillow does not know",
        "image 4: expected an image file, its bytes, or integers H×W×3 from 0 to 255, got float64 of shape 4×4",
        "image 5: expected an image file, its bytes, or integers H×W×3 from 0 to 255, got float64 of shape 90×80×3",
        "image 7: expected an image file, its bytes, or integers H×W×3 from 0 to 255, got values from 300 to 300",
    ]


def test_several_columns_need_one_called_image(classifier: Classifier) -> None:
    with pytest.raises(BadInput, match="a column 'image', or only one column, got the columns a, b"):
        classifier.predict_proba(pd.DataFrame({"a": ["x"], "b": ["y"]}))


def test_the_folder_holds_tensors_and_text(folder: Path, config: TrialConfig) -> None:
    assert {file.name for file in folder.iterdir()} == {WEIGHTS, DESCRIPTION}
    tensors = torch.load(folder / WEIGHTS, weights_only=True)
    assert "target_head.weight" in tensors
    assert not any(name.startswith("source_head") for name in tensors)
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    assert description["class_names"] == list(CLASSES)
    assert TrialConfig.model_validate(description["config"]) == config
    assert description["versions"]["torch"] == version("torch")


@pytest.mark.parametrize("spoil", ["empty", "description", "weights", "torn", "classes", "version"])
def test_what_is_no_classifier_is_refused(folder: Path, spoil: str) -> None:
    text = (folder / DESCRIPTION).read_text(encoding="utf-8")
    match spoil:
        case "empty":
            folder = folder / "nowhere"
        case "description":
            (folder / DESCRIPTION).write_text("{")
        case "weights":
            (folder / WEIGHTS).unlink()
        case "torn":
            (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
        case "classes":
            (folder / DESCRIPTION).write_text(text.replace('"cat",', ""))
        case "version":
            (folder / DESCRIPTION).write_text(text.replace('"backbone"', '"spine"'))
    with pytest.raises(BadInput, match=r"a folder with a classifier's classifier\.json and weights\.pt, got ."):
        Classifier.load(folder)


def test_chunks_keep_what_can_be_read(classifier: Classifier, pixels: np.ndarray) -> None:
    images = [pixels[0], b"no image", pixels[1], "gone.jpg", pixels[2]]
    chunks = list(classifier.predict_chunks(images))
    assert [len(chunk.probabilities) for chunk in chunks] == [2, 2, 1]
    assert [list(chunk.problems) for chunk in chunks] == [[1], [1], []]
    assert [problem.where for chunk in chunks for problem in chunk.problems.values()] == ["image 1", "gone.jpg"]
    together = np.concatenate([chunk.probabilities for chunk in chunks])
    assert np.isnan(together).all(axis=1).tolist() == [False, True, False, True, False]
    np.testing.assert_allclose(together[[0, 2, 4]], classifier.predict_proba(pixels), rtol=1e-5, atol=1e-6)


class TestCalibration:
    def test_is_kept_in_the_description_and_followed(
        self, folder: Path, config: TrialConfig, pixels: np.ndarray
    ) -> None:
        network = build_network(config.backbone, len(CLASSES), 5, False)
        with torch.no_grad():
            network.target_head.weight.mul_(30)  # so that images differ in their probabilities
        save_classifier(folder, network, config, CLASSES)
        images = (pixels // np.array([1, 4, 16])[:, None, None, None]).astype(np.uint8)
        plain = Classifier.load(folder, CPU)
        before = plain.predict_proba(images)
        assert "unlike" not in plain.predict(images)
        versions = read_description(folder).versions
        known = directions(plain._evaluated(plain._read(list(images[:2]), 0)[0]).pooled).half().numpy()
        set_temperature(folder, 2.0)
        set_novelty(folder, NoveltyDetector(known, 1, 0.999999))
        assert read_description(folder).versions == versions
        calibrated = Classifier.load(folder, CPU)
        np.testing.assert_allclose(calibrated.predict_proba(images), with_temperature(before, 2.0), rtol=1e-5)
        frame = calibrated.predict(images)
        assert list(frame.columns)[:3] == ["label", "probability", "unlike"]
        assert frame["unlike"].tolist() == [False, False, True], "the first two are the known ones themselves"
        set_novelty(folder, None)
        assert not (folder / KNOWN).exists()
        assert "unlike" not in Classifier.load(folder, CPU).predict(images)

    def test_is_none_in_files_that_do_not_say_it(self, folder: Path) -> None:
        description = json.loads((folder / DESCRIPTION).read_text())
        for key in ("temperature", "unlike_threshold", "num_networks"):
            del description[key]
        (folder / DESCRIPTION).write_text(json.dumps(description))
        classifier = Classifier.load(folder, CPU)
        assert (classifier.temperature, classifier.novelty) == (1.0, None)

    def test_a_threshold_on_probabilities_of_an_earlier_version_is_not_followed(self, folder: Path) -> None:
        description = json.loads((folder / DESCRIPTION).read_text())
        (folder / DESCRIPTION).write_text(json.dumps(description | {"unlike_threshold": 0.5}))
        assert Classifier.load(folder, CPU).novelty is None

    def test_features_that_cannot_be_read_are_no_classifier(self, folder: Path) -> None:
        set_novelty(folder, NoveltyDetector(np.zeros((2, 8), dtype=np.float16), 1, 0.5))
        with pytest.raises(BadInput, match=r"known\.npz with 8 features, where the network has \d+"):
            Classifier.load(folder, CPU)
        (folder / KNOWN).write_bytes(b"torn")
        with pytest.raises(BadInput, match="got "):
            Classifier.load(folder, CPU)

    def test_out_of_range_is_refused(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="temperature"):
            set_temperature(folder, 0)
        with pytest.raises(ValueError, match="unlike_threshold"):
            set_novelty(folder, NoveltyDetector(np.zeros((2, 8), dtype=np.float16), 1, 1.1))
        with pytest.raises(BadInput, match="no such file"):
            set_temperature(folder / "nowhere", 2)


class TestRequests:
    """What a client of a model server sends: never a path of the server's."""

    @pytest.fixture
    def served(self, folder: Path) -> Classifier:
        return _load_pyfunc(str(folder))

    def test_bytes_base64_and_pixels_are_read(
        self, served: Classifier, classifier: Classifier, pixels: np.ndarray
    ) -> None:
        encoded = [png(image) for image in pixels]
        expected = classifier.predict_proba(pixels)
        for form in (pixels, pixels.tolist(), encoded, [base64.b64encode(image).decode() for image in encoded]):
            np.testing.assert_allclose(served.predict_proba(form), expected, rtol=1e-4, atol=1e-5)

    def test_a_path_is_not_opened(self, served: Classifier, tmp_path: Path, pixels: np.ndarray) -> None:
        path = tmp_path / "photo.png"
        path.write_bytes(png(pixels[0]))
        with pytest.raises(BadInput) as refused:
            served.predict_proba([str(path), path, "cGhvdG8=", "a" * 101])
        problems = [str(problem) for problem in refused.value.problems]
        expected = "the bytes of an image file, their base64, or integers H×W×3 from 0 to 255 (no path)"
        assert problems[0].startswith(f"image 0: expected {expected}, got '/")
        assert problems[0].endswith(", which is not base64")
        assert problems[1] == problems[0].replace("image 0", "image 1")
        assert problems[2] == "image 2: expected an image file, got a format that Pillow does not know"
        assert problems[3] == f"image 3: expected {expected}, got '{'a' * 40}…', which is not base64"

    def test_nor_is_one_that_is_base64_too(
        self, served: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "AAAA").touch()
        with pytest.raises(BadInput, match="image 0: expected an image file, got a format that Pillow does not know"):
            served.predict_proba(["AAAA"])
