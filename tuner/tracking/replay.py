"""Syncs an MLflow store with a run that no process is at work on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from trainables.classifier import Classifier
from trainables.data.images import Pixels
from trainables.errors import BadInput, Problem
from trainables.trial import MODEL_SEED
from tuner.experiment.settings import tracking_uri
from tuner.messages.redaction import reason, without_credentials
from tuner.record.baselines import BaselineRecord
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment
from tuner.record.events import ComparisonStarted, SearchStarted
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.journal import open_search_journal
from tuner.record.lines import read_events
from tuner.record.lock import locked
from tuner.record.registration import model_registered
from tuner.record.selection import winner_of
from tuner.tracking.process import only_writer
from tuner.tracking.projection import Projection, read_start
from tuner.tracking.registry import ALIAS, TrackingFailed, has_model, register_model
from tuner.tracking.store import prepare_store


def replay(
    directory: RunDirectory,
    uri: str,
    from_start: bool = False,
    say: Callable[[str], object] = print,
    where: str = "tracking.uri",
) -> None:
    """Syncs the store at `uri` with a run: the journal of a search, or those of a comparison and its rows' searches.

    A run at work is refused: its own process writes to MLflow, and a second one would make runs twice.

    Args:
        directory: the run.
        uri: the store, with its credentials.
        from_start: whether every event is written, also those that the store is known to have.
        say: called with what was written, a line for each journal.
        where: flag or environment variable that says `uri`, for messages.

    Raises:
        BadInput: where the store is away, a process is at work on the run, or its journal cannot be read.
        TrackingFailed: where the store fails in the middle of it; calling again goes on.
    """
    with locked(directory), only_writer(directory):
        journals = (directory, *directory.row_searches())
        for each in journals:
            deque(read_events(each.journal), maxlen=0)  # a damaged one is refused before anything is written
        prepare_store(uri, _start_of(directory).name, where)
        try:
            for journal in journals:
                _replay_journal(journal, uri, from_start, say)
        except BadInput:
            raise
        except Exception as error:  # stores and their drivers raise errors of all kinds
            raise TrackingFailed(reason(error)) from error


def store_of(directory: RunDirectory, given: str | None) -> str:
    """Returns the URI of the store that was `given`, or of the one that the run was recorded in.

    Credentials are not kept on the disk: they come from MLFLOW_TRACKING_URI where that names the same store.
    """
    if given:
        return tracking_uri(given)
    here = tracking_uri(None)
    recorded = Environment.read(directory).tracking_uri
    return here if recorded in ("", without_credentials(here)) else recorded


def _replay_journal(directory: RunDirectory, uri: str, from_start: bool, say: Callable[[str], object]) -> None:
    started = _start_of(directory)
    projection = Projection(uri, started.name, directory)
    if from_start:
        projection.forget()
    num_events = projection.advance()
    died = projection.kill_unfinished()
    parts = [f"{num_events} events written", f"{projection.num_runs} runs"]
    parts += ["its process died: what ran is KILLED"] if died else []
    say(f"{started.name}/{started.run}: {', '.join(parts)}, in {without_credentials(uri)}")
    if isinstance(started, SearchStarted) and (note := _register(directory, uri, started)) is not None:
        projection.advance()
        say(f"  {note}")


def _register(directory: RunDirectory, uri: str, started: SearchStarted) -> str | None:
    """Registers the retrained model where the store lacks it; returns a line about it, None if it has it."""
    with closing(open_search_journal(directory)) as journal:
        history = journal.history
        winner = _retrained_winner(history)
        if winner is None:
            return None
        baseline = winner.name if isinstance(winner, BaselineRecord) else None
        name = started.space.get("tracking", {}).get("registered_model") or started.name
        seed = MODEL_SEED if history.ensemble(winner.key) is None else None
        run = (uri, started.name, started.run, seed)
        try:
            known = history.model_uri(winner.key)
            if (known or not history.has_model) and has_model(*run, name, baseline):
                return None
            example = _example(Classifier.load(directory.model))
            model_uri = register_model(*run, directory.model, name, example, baseline, False)
        except (BadInput, TrackingFailed) as failure:
            return f"the model is not registered ({reason(failure)}); it is in {directory.model}"
        if known is None and _is_own_store(directory, uri):  # else the record would name a model of another store
            journal.append(model_registered(history, winner, model_uri, MODEL_SEED))
        return f"registered {model_uri}, which is the {ALIAS} only where there was none"


def _is_own_store(directory: RunDirectory, uri: str) -> bool:
    """Whether `uri` is the store that the run was recorded in; an old record does not say."""
    return Environment.read(directory).tracking_uri in ("", without_credentials(uri))


def _retrained_winner(history: SearchHistory) -> TrialRecord | BaselineRecord | None:
    """Trial or baseline whose configuration the model has."""
    winner = winner_of(history.trials.values(), history.baselines.values())
    if winner is None or (history.ensemble(winner.key) is None and MODEL_SEED not in history.retrainings(winner.key)):
        return None
    return winner


def _example(classifier: Classifier) -> Pixels | Sequence[str]:
    """Input that the model takes, made without the data: they may be on another machine."""
    if classifier.config.data.has_texts:
        return ["a sentence"]
    size_px = classifier.config.data.stored_px
    return np.zeros((1, size_px, size_px, 3), dtype=np.uint8)


def _start_of(directory: RunDirectory) -> SearchStarted | ComparisonStarted:
    started = read_start(directory)
    if started is None:
        raise BadInput(Problem("", "a journal with events", "an empty one", file=str(directory.journal)))
    return started
