"""A model that is registered can be had by its name, with its card and its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from tests.marks import MLFLOW_LEAKS
from tests.tuner.tiny import baseline_events
from tests.tuner.tracking.searches import DEAD, NAME, RUN, Store, start_search, whole_search
from trainables.backbones import build_network
from trainables.classifier import Classifier, save_classifier, set_novelty, set_temperature
from trainables.config import TrialConfig
from trainables.errors import BadInput
from trainables.novelty import NoveltyDetector
from tuner.record.journal import SearchJournal
from tuner.tracking import registry
from tuner.tracking.projection import Projection
from tuner.tracking.registry import (
    TrackingFailed,
    champion_version,
    load_classifier,
    newest_champion,
    register_model,
)
from tuner.tracking.store import prepare_store

pytestmark = MLFLOW_LEAKS

CLASSES = ("cat", "dog")


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
    client = MlflowClient(uri)
    champion = client.get_model_version_by_alias(NAME, "champion")
    assert (again, champion.run_id) == (f"models:/{NAME}/2", Store(uri).runs["retrain-seed-1"].info.run_id)
    for event in baseline_events("linear_probe", [0.5], [0.8]):
        journal.append(event)
    projection.advance()
    example = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    probe = register_model(uri, NAME, RUN, 0, classifier_dir, NAME, example, "linear_probe")
    champion = client.get_model_version_by_alias(NAME, "champion")
    assert (probe, champion.run_id) == (f"models:/{NAME}/3", Store(uri).runs["retrain-linear_probe-seed-0"].info.run_id)


def test_a_version_says_what_it_is(
    projection: Projection, journal: SearchJournal, uri: str, classifier_dir: Path
) -> None:
    whole_search(journal)
    for event in baseline_events("linear_probe", [0.5], [0.8]):
        journal.append(event)
    projection.advance()
    client, example = MlflowClient(uri), np.zeros((1, 32, 32, 3), dtype=np.uint8)
    register_model(uri, NAME, RUN, 1, classifier_dir, NAME, example)
    register_model(uri, NAME, RUN, 0, classifier_dir, NAME, example, "linear_probe")
    every = {"method": "l2", "backbone": "timm/test_resnet", "num_classes": "2", "search_run": RUN}
    tags = [client.get_model_version(NAME, version).tags for version in ("1", "2")]
    assert tags == [
        {**every, "seed": "1", "configuration": "trial-0000", "test_top1": "0.9100"},
        {**every, "seed": "0", "configuration": "linear_probe", "test_top1": "0.8000"},
    ]
    logged = client.search_logged_models([prepare_store(uri, NAME)])
    assert {model.name for model in logged} == {"l2-timm-test_resnet"}
    assert all(every.items() <= model.tags.items() for model in logged)


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


def test_the_card_is_the_description_of_the_version(
    projection: Projection, journal: SearchJournal, uri: str, classifier_dir: Path
) -> None:
    whole_search(journal)
    projection.advance()
    example, client = np.zeros((1, 32, 32, 3), dtype=np.uint8), MlflowClient(uri)

    def description() -> str | None:
        register_model(uri, NAME, RUN, 0, classifier_dir, NAME, example)
        found: str | None = client.get_model_version_by_alias(NAME, "champion").description
        return found

    assert not description()
    (classifier_dir / "MODEL_CARD.md").write_text("# smile-digits\n\nClassifies **cats**.\n", encoding="utf-8")
    assert description() == "# smile-digits\n\nClassifies **cats**.\n"
    (classifier_dir / "MODEL_CARD.md").write_text("word " * 2000, encoding="utf-8")
    cut = description()
    assert cut is not None
    assert len(cut) == 5000
    assert cut.endswith("… (the whole card is among the model's files, data/model/MODEL_CARD.md)")


def test_a_classifier_is_loaded_by_its_name(
    projection: Projection, journal: SearchJournal, uri: str, classifier_dir: Path
) -> None:
    whole_search(journal)
    projection.advance()
    set_temperature(classifier_dir, 1.5)
    num_features = Classifier.load(classifier_dir, torch.device("cpu")).network.backbone.num_features
    known = np.ones((4, num_features), dtype=np.float16)
    set_novelty(classifier_dir, NoveltyDetector(known, 3, 0.25))
    assert newest_champion(uri) is None
    for name in ("fruit", "digits"):
        register_model(uri, NAME, RUN, 0, classifier_dir, name, np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert newest_champion(uri) == "models:/digits@champion"
    loaded = load_classifier("models:/fruit@champion", uri)
    assert (loaded.class_names, loaded.temperature) == (CLASSES, 1.5)
    assert loaded.novelty is not None
    assert (loaded.novelty.nearest, loaded.novelty.threshold) == (3, 0.25)
    np.testing.assert_array_equal(loaded.novelty.known, known)
    signature = mlflow.models.get_model_info("models:/fruit@champion").signature
    assert signature is not None
    assert signature.outputs.input_names()[:3] == ["label", "probability", "unlike"]


def test_a_model_of_another_kind_is_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    experiment_id = prepare_store(uri, NAME)
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=experiment_id)
    with mlflow.start_run():  # mlflow.pyfunc as the product has it, since its import warns
        logged = registry._pyfunc().log_model(
            name="model", loader_module="sklearn.svm", data_path=str(tmp_path / "data"), pip_requirements=["numpy"]
        )
    with pytest.raises(BadInput, match=r"expected a model that smile-tuner registered, got one of sklearn\.svm"):
        load_classifier(logged.model_uri, uri)


def test_a_model_that_is_not_there_is_bad_input(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"models:/gone@champion: expected a model in the store sqlite:.*gone"):
        load_classifier("models:/gone@champion", uri)
    with pytest.raises(BadInput, match="no such file"):
        load_classifier("models:/gone@champion", f"sqlite:///{tmp_path / 'gone.db'}")
    assert newest_champion(f"sqlite:///{tmp_path / 'gone.db'}") is None
    assert not (tmp_path / "gone.db").exists()
