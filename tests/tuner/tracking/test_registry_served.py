"""A registered model is loaded and served where this project is not installed, and opens no path of its clients'."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.tracking import free_port
from tests.end_to_end.processes import came_true
from tests.marks import MLFLOW_LEAKS
from tests.tuner.tracking.searches import NAME, RUN, whole_search
from tests.tuner.tracking.test_registry import CLASSES, classifier_dir
from trainables.classifier import Classifier, set_novelty
from trainables.novelty import NoveltyDetector
from tuner.record.journal import SearchJournal
from tuner.tracking.projection import Projection
from tuner.tracking.registry import register_model

pytestmark = [MLFLOW_LEAKS, pytest.mark.slow]
__all__ = ["classifier_dir"]

SITE_PACKAGES = [path for path in sys.path if path.endswith("site-packages")]
WITHOUT_THE_PROJECT = """
import importlib.util, sys

uri, name, photos = sys.argv[1:4]
sys.path += sys.argv[4:]  # without what else Python does with them: follow .pth files, to the project too
assert not any(map(importlib.util.find_spec, ("tuner", "trainables"))), "the project can be imported"

import mlflow, numpy as np, pandas as pd, torch
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(name)
import trainables
assert "/code/trainables/" in trainables.__file__, trainables.__file__

encoded = [open(path, "rb").read() for path in photos.split(":")]
pixels = np.stack([np.load(path + ".npy") for path in photos.split(":")])
forms = {
    "bytes": encoded,
    "column of bytes": pd.DataFrame({"image": encoded}),
    "array": pixels,
    "list of arrays": list(pixels),
    "one": encoded[0],
}
frames = {form: model.predict(data) for form, data in forms.items()}
for form, frame in frames.items():
    pd.testing.assert_frame_equal(frame, frames["bytes"].head(len(frame)), obj=form)
assert len(model.predict(model.input_example)) == len(model.input_example)
print(frames["bytes"].to_json(orient="split"))
"""


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two PNG files, and their pixels beside them."""
    paths = []
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
        np.save(tmp_path / f"{i}.png.npy", image)
    return paths


@pytest.fixture
def champion(projection: Projection, journal: SearchJournal, uri: str, classifier_dir: Path, photos: list[Path]) -> str:
    """The URI of a registered model, which says what is unlike anything seen: everything, by its threshold."""
    num_features = Classifier.load(classifier_dir, torch.device("cpu")).network.backbone.num_features
    set_novelty(classifier_dir, NoveltyDetector(np.eye(3, num_features, dtype=np.float16), nearest=1, threshold=1.0))
    whole_search(journal)
    projection.advance()
    example = np.asarray(Image.open(photos[0]))[None]
    return register_model(uri, NAME, RUN, 0, classifier_dir, NAME, example)


@pytest.fixture
def expected(classifier_dir: Path, photos: list[Path]) -> np.ndarray:
    return Classifier.load(classifier_dir, torch.device("cpu")).predict_proba(photos)


def test_it_predicts_where_the_project_is_not_installed(
    champion: str, uri: str, photos: list[Path], expected: np.ndarray, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = [sys.executable, "-I", "-S", "-c", WITHOUT_THE_PROJECT]
    given = [uri, champion, ":".join(map(str, photos)), *SITE_PACKAGES]
    done = subprocess.run([*program, *given], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["columns"] == ["label", "probability", "unlike", *(f"probability/{name}" for name in CLASSES)]
    assert [row[2] for row in answer["data"]] == [True, True]
    np.testing.assert_allclose([row[3:] for row in answer["data"]], expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def server(champion: str, uri: str, tmp_path: Path) -> Iterator[str]:
    """The address of `mlflow models serve`."""
    port, binaries = free_port(), Path(sys.executable).parent
    command = [str(binaries / "mlflow"), "models", "serve", "--model-uri", champion, "--env-manager", "local"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "PATH": f"{binaries}:{os.environ['PATH']}"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        try:
            with urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        assert came_true(answers, 120), (tmp_path / "server.log").read_text()
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask(server: str, inputs: list[Any]) -> tuple[int, Any]:
    """Status and body of a request."""
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(f"{server}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_it_is_served_and_opens_no_path(server: str, photos: list[Path], expected: np.ndarray) -> None:
    pixels = [np.asarray(Image.open(photo)).tolist() for photo in photos]
    encoded = [base64.b64encode(photo.read_bytes()).decode() for photo in photos]
    for inputs in (pixels, encoded):
        status, answer = ask(server, inputs)
        assert status == 200
        assert [row["unlike"] for row in answer["predictions"]] == [True, True]
        rows = [[row[f"probability/{name}"] for name in CLASSES] for row in answer["predictions"]]
        np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)
    status, refusal = ask(server, [str(photos[0])])
    assert status == 400
    assert "which is not base64" in refusal
