"""A model that is registered can be had by its name, and takes every form of image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tiny import baseline_events
from tests.tuner.tracking.searches import DEAD, NAME, RUN, Store, start_search, whole_search
from trainables.backbones import build_network
from trainables.classifier import Classifier, save_classifier
from trainables.config import TrialConfig
from trainables.errors import BadInput
from tuner.record.journal import SearchJournal
from tuner.tracking.projection import Projection
from tuner.tracking.registry import TrackingFailed, champion_version, load_model, register_model
from tuner.tracking.store import prepare_store

pytestmark = MLFLOW_LEAKS

CLASSES = ("cat", "dog")

IN_ANOTHER_PLACE = """
import io, json, sys
import mlflow, numpy as np, pandas as pd
from PIL import Image

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/smile-digits@champion")
paths = sys.argv[2:]
pixels = [np.asarray(Image.open(path)) for path in paths]
encoded = [open(path, "rb").read() for path in paths]
forms = {
    "paths": paths,
    "array of paths": np.array(paths),
    "series": pd.Series(paths),
    "column": pd.DataFrame({"image": paths}),
    "array": np.stack(pixels),
    "list of arrays": pixels,
    "bytes": encoded,
    "column of bytes": pd.DataFrame({"image": encoded}),
    "one path": paths[0],
}
frames = {form: model.predict(data) for form, data in forms.items()}
expected = frames["paths"]
for form, frame in frames.items():
    pd.testing.assert_frame_equal(frame, expected.head(len(frame)), obj=form)
example = model.input_example
assert len(model.predict(example)) == len(example)
print(expected.to_json(orient="split"))
"""


@pytest.fixture
def classifier_dir(tmp_path: Path) -> Path:
    config = TrialConfig.model_validate(
        {
            "data": {"dataset": "digits", "size_px": 32, "resize_px": 32},
            "backbone": {"name": "timm/test_resnet", "pretrained": False},
            "method": {"name": "l2"},
        }
    )
    network = build_network(config.backbone, len(CLASSES), 3, False)
    save_classifier(tmp_path / "model", network, config, CLASSES)
    return tmp_path / "model"


@pytest.mark.slow
def test_a_registered_model_predicts_elsewhere_from_every_form_of_image(
    projection: Projection, journal: SearchJournal, store: Store, uri: str, classifier_dir: Path, tmp_path: Path
) -> None:
    whole_search(journal)
    projection.advance()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model_uri = register_model(uri, NAME, RUN, 0, classifier_dir, NAME, pixels[:1])
    assert model_uri == "models:/smile-digits/1"

    version = store.client.get_model_version_by_alias(NAME, "champion")
    assert version.status == "READY"
    assert version.run_id == store.runs["retrain-seed-0"].info.run_id
    assert store.runs["retrain-seed-0"].info.status == "FINISHED"

    paths = []
    for i, image in enumerate(pixels):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image).save(paths[-1])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PLACE, uri, *paths], cwd=elsewhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["columns"] == ["label", "probability", "probability/cat", "probability/dog"]
    expected = Classifier.load(classifier_dir, torch.device("cpu")).predict_proba(paths)
    np.testing.assert_allclose([row[2:] for row in answer["data"]], expected, rtol=1e-4, atol=1e-5)


def test_what_is_logged_with_a_model(
    projection: Projection,
    journal: SearchJournal,
    uri: str,
    classifier_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    whole_search(journal)
    projection.advance()
    register_model(uri, NAME, RUN, 0, classifier_dir, NAME, np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert not Path("mlruns").exists()
    (requirements,) = (tmp_path / "mlartifacts").rglob("requirements.txt")
    lines = requirements.read_text().splitlines()
    assert all("==" in line and "+" not in line for line in lines)
    assert {"torch", "timm", "mlflow"} <= {line.partition("==")[0] for line in lines}
    (logged,) = MlflowClient(uri).search_logged_models([prepare_store(uri, NAME)])
    assert logged.status == "READY"
    assert {metric.key: metric.value for metric in logged.metrics or ()}["test_top1"] == 0.9
    again = register_model(uri, NAME, RUN, 1, classifier_dir, NAME, np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert load_model(again, uri).metadata.run_id == Store(uri).runs["retrain-seed-1"].info.run_id
    for event in baseline_events("linear_probe", [0.5], [0.8]):
        journal.append(event)
    projection.advance()
    example = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    probe = register_model(uri, NAME, RUN, 0, classifier_dir, NAME, example, "linear_probe")
    assert load_model(probe, uri).metadata.run_id == Store(uri).runs["retrain-linear_probe-seed-0"].info.run_id


def test_the_champion_is_the_last_model_that_a_search_registered(
    projection: Projection, journal: SearchJournal, uri: str, classifier_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the versions that the store counts, whatever the clocks of the machines say."""
    whole_search(journal)
    projection.advance()
    client, example = MlflowClient(uri), np.zeros((1, 32, 32, 3), dtype=np.uint8)

    def registered(seed: int, succeeds: bool = True) -> tuple[str, int | None]:
        model_uri = register_model(uri, NAME, RUN, seed, classifier_dir, NAME, example, None, succeeds)
        return model_uri, champion_version(client, NAME)

    assert champion_version(client, NAME) is None
    assert registered(1, succeeds=False) == (f"models:/{NAME}/1", 1)
    assert registered(0) == (f"models:/{NAME}/2", 2)  # its run is the older one
    assert registered(1, succeeds=False) == (f"models:/{NAME}/3", 2)
    client.set_registered_model_alias(NAME, "champion", "3")
    created = MlflowClient.create_model_version

    def overtaken(self: MlflowClient, *arguments: Any, **more: Any) -> Any:
        version = created(self, *arguments, **more)
        client.set_registered_model_alias(NAME, "champion", created(self, *arguments, **more).version)
        return version

    monkeypatch.setattr(MlflowClient, "create_model_version", overtaken)
    assert registered(0) == (f"models:/{NAME}/4", 5)  # another search was a moment later, and faster


def test_a_model_without_a_run_is_said_so(
    projection: Projection, journal: SearchJournal, uri: str, classifier_dir: Path
) -> None:
    start_search(journal)
    projection.advance()
    example = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(TrackingFailed, match=r"no run of search .* for retraining seed 0"):
        register_model(uri, NAME, RUN, 0, classifier_dir, NAME, example)
    with pytest.raises(TrackingFailed, match=r"http://127\.0\.0\.1:9") as raised:
        register_model(DEAD, NAME, RUN, 0, classifier_dir, NAME, example)
    assert "hunter2" not in str(raised.value)


def test_a_model_that_is_not_there_is_bad_input(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"models:/gone@champion: expected a model in the store sqlite:.*gone"):
        load_model("models:/gone@champion", uri)
    with pytest.raises(BadInput, match="no such file"):
        load_model("models:/gone@champion", f"sqlite:///{tmp_path / 'gone.db'}")
    assert not (tmp_path / "gone.db").exists()
