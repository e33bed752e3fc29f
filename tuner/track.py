"""Brings MLflow into line with an experiment directory: `python -m tuner.track --replay EXPERIMENT`.

A search does so by itself while it runs. This is for what has ended: without its store, with another one, or killed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.images import Pixels
from trainables.errors import BadInput
from tuner.classifier import Classifier
from tuner.cli import FAILED, FOUND, guarded
from tuner.journal import Event, History, Journal, read_events
from tuner.redaction import reason, redact_logging, without_credentials
from tuner.retrain import MODEL_SEED
from tuner.runs import EXPERIMENTS, find_run, locked
from tuner.selection import best_trial
from tuner.tracking import Projection, prepare_store, tracking_uri
from tuner.tracking.models import TrackingFailed, has_model, register_model
from tuner.tracking.process import only_writer


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0: MLflow is in line; 2: bad input, such as a store that is away; 1: anything else."""
    parser = argparse.ArgumentParser(
        prog="python -m tuner.track", description="Bring MLflow into line with an experiment; twice changes nothing."
    )
    add = parser.add_argument
    add(
        "--replay",
        required=True,
        metavar="EXPERIMENT",
        help="an experiment directory, NAME (its latest run) or NAME/RUN",
    )
    add("--from-start", action="store_true", help="carry over everything, also what MLflow is known to have")
    add("--tracking-uri", metavar="URI", help="the store (default: the one that it was recorded in)")
    add("--directory", type=Path, default=EXPERIMENTS, metavar="FOLDER", help="where the experiments lie")
    arguments = parser.parse_args(argv)

    def command() -> int:
        directory = find_run(arguments.replay, arguments.directory, "--replay")
        return replay(directory, store_of(directory, arguments.tracking_uri), arguments.from_start)

    return guarded(command)


def replay(directory: Path, uri: str, from_start: bool = False) -> int:
    """Brings the store at `uri` into line with a run that nobody works on, and says what that took.

    A running search is refused: it carries its events over itself, and a second one doing so would make runs twice.

    Raises:
        BadInput: where the store is away, or a process runs the search.
    """
    redact_logging()
    with locked(directory), only_writer(directory):
        prepare_store(uri, _first(directory)["name"])
        try:
            for part in parts_of(directory):
                _replay_part(part, uri, from_start)
        except BadInput:
            raise
        except Exception as error:  # whatever a store comes up with in the middle of it
            print(f"MLflow is not in line yet: {reason(error)}; give the command again")
            return FAILED
    return FOUND


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


def _replay_part(directory: Path, uri: str, from_start: bool) -> None:
    first = _first(directory)
    projection = Projection(uri, first["name"], directory)
    if from_start:
        projection.forget()
    num_events = projection.advance()
    died = projection.end_what_died()
    said = [f"{num_events} events carried over", f"{projection.num_runs} runs"]
    said += ["its process died: what ran is KILLED"] if died else []
    print(f"{first['name']}/{first['run']}: {', '.join(said)}, in {without_credentials(uri)}", flush=True)
    if (note := _registered(directory, uri, first)) is not None:
        projection.advance()
        print(f"  {note}")


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


if __name__ == "__main__":
    raise SystemExit(main())
