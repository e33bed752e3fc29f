"""Configuration of a recorded trial or baseline. Apart, as it imports PyTorch, which reading a record does not need."""

from __future__ import annotations

from trainables.config import TrialConfig
from tuner.experiment.baselines import config_of_leaves
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.tree import flatten
from tuner.record.baselines import BaselineRecord
from tuner.record.create import MAY_MOVE
from tuner.record.history import TrialRecord


def config_of(record: TrialRecord | BaselineRecord, space: SearchExperiment) -> TrialConfig:
    """Builds the configuration of a trial or of a baseline of `space`, whose data may have been moved since.

    Raises pydantic's ValidationError.
    """
    if isinstance(record, BaselineRecord):
        data = {path: value for path, value in flatten(space.fixed).items() if path in MAY_MOVE}
        return config_of_leaves(record.config | data)
    return space.trial_config(record.params)
