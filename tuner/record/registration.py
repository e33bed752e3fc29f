"""The event of a model's registration: which network it is, and what it scored."""

from __future__ import annotations

from tuner.record.baselines import BaselineRecord
from tuner.record.events import ModelRegistered
from tuner.record.history import SearchHistory, TrialRecord


def model_registered(
    history: SearchHistory, winner: TrialRecord | BaselineRecord, uri: str, model_seed: int
) -> ModelRegistered:
    """Makes the event for the winner's model in MLflow, `uri`: its ensemble if it has one, else the network that was
    retrained with `model_seed`."""
    ensemble, single = history.ensemble(winner.key), history.retrainings(winner.key).get(model_seed)
    scored = ensemble or single
    return ModelRegistered(
        trial=winner.number if isinstance(winner, TrialRecord) else None,
        baseline=winner.name if isinstance(winner, BaselineRecord) else None,
        uri=uri,
        seed=model_seed if ensemble is None else None,
        test_top1=None if scored is None else scored.test_top1,
    )
