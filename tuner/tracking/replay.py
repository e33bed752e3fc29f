"""Brings an MLflow store into line with an experiment directory that nobody works on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from trainables.classifier import Classifier
from trainables.data.images import Pixels
from trainables.errors import BadInput
from trainables.trial import MODEL_SEED
from tuner.experiment.settings import tracking_uri
from tuner.messages.redaction import reason, without_credentials
from tuner.record.events import Event, read_events
from tuner.record.history import History
from tuner.record.journal import Journal
from tuner.record.lock import locked
from tuner.record.selection import best_trial
from tuner.tracking.process import only_writer
from tuner.tracking.projection import Projection
from tuner.tracking.registry import TrackingFailed, has_model, register_model
from tuner.tracking.store import prepare_store


def replay(directory: Path, uri: str, from_start: bool = False, say: Callable[[str], object] = print) -> None:
    """Brings the store at `uri` into line with a run that nobody works on; `say` is told what each journal took.

    A running search is refused: it carries its events over itself, and a second one doing so would make runs twice.

    Raises:
        BadInput: where the store is away, or a process runs the search.
        TrackingFailed: where the store fails in the middle of it; calling again goes on.
    """
    with locked(directory), only_writer(directory):
        prepare_store(uri, _first(directory)["name"])
        try:
            for part in parts_of(directory):
                _replay_part(part, uri, from_start, say)
        except BadInput:
            raise
        except Exception as error:  # stores and their drivers raise errors of all kinds
            raise TrackingFailed(reason(error)) from error


def parts_of(directory: Path) -> Iterator[Path]:
    """The journals of a run: its own, and those of a comparison's searches."""
    yield directory
    yield from sorted(path.parent for path in directory.glob("searches/*/journal.jsonl"))


def store_of(directory: Path, given: str | None) -> str:
    """The store that was `given`, or the one that the run was recorded in: with the credentials of MLFLOW_TRACKING_URI
    where that names the same one, because none are kept on the disk."""
    if given:
        return tracking_uri(given)
    here = tracking_uri(None)
    try:
        recorded = json.loads((directory / "environment.json").read_text(encoding="utf-8")).get("tracking_uri")
    except (OSError, ValueError):
        recorded = None
    return here if recorded in (None, without_credentials(here)) else str(recorded)


def _replay_part(directory: Path, uri: str, from_start: bool, say: Callable[[str], object]) -> None:
    first = _first(directory)
    projection = Projection(uri, first["name"], directory)
    if from_start:
        projection.forget()
    num_events = projection.advance()
    died = projection.end_what_died()
    said = [f"{num_events} events carried over", f"{projection.num_runs} runs"]
    said += ["its process died: what ran is KILLED"] if died else []
    say(f"{first['name']}/{first['run']}: {', '.join(said)}, in {without_credentials(uri)}")
    if (note := _registered(directory, uri, first)) is not None:
        projection.advance()
        say(f"  {note}")


def _registered(directory: Path, uri: str, first: Event) -> str | None:
    """Registers the retrained model where that store lacks it; what became of that, None if there was nothing to do."""
    with closing(Journal(directory)) as journal:
        history, model = journal.history, directory / "model"
        trial = _retrained(history)
        if trial is None:
            return None
        name = first.get("space", {}).get("tracking", {}).get("registered_model") or first["name"]
        run: dict[str, Any] = {"uri": uri, "experiment": first["name"], "search_run": first["run"], "seed": MODEL_SEED}
        try:
            known = history.model_uri(trial)
            if (known or history.model is None) and has_model(**run, registered_name=name):
                return None
            example = _example(Classifier.load(model))
            model_uri = register_model(**run, classifier_dir=model, registered_name=name, example=example)
        except (BadInput, TrackingFailed) as failure:
            return f"the model is not registered ({reason(failure)}); it lies in {model}"
        if known is None:
            journal.append("model_registered", trial=trial, uri=model_uri)
        return f"registered {model_uri}"


def _retrained(history: History) -> int | None:
    """The trial whose configuration the model has."""
    best = best_trial(history.trials.values())
    return best.number if best is not None and MODEL_SEED in history.retrainings(best.number) else None


def _example(classifier: Classifier) -> Pixels | Sequence[str]:
    """What the model takes, without the data: they may be on another machine."""
    if classifier.config.data.has_texts:
        return ["a sentence"]
    size_px = classifier.config.data.stored_px
    return np.zeros((1, size_px, size_px, 3), dtype=np.uint8)


def _first(directory: Path) -> Event:
    return next(read_events(directory / "journal.jsonl"))
