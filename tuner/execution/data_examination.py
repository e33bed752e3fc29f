"""Examination of the data of a search, before its first trial: what makes scores optimistic is said and recorded."""

from __future__ import annotations

import numpy as np

from trainables.data.grouping import group_numbers
from trainables.data.inventory import identical_pairs
from trainables.data.loading import plan_splits
from trainables.near_twins import NearTwins
from tuner.execution.observer import Observer
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.data_findings import NAMED, DataFindings
from tuner.record.data_record import read_inventories
from tuner.record.events import DataExamined
from tuner.record.journal import SearchJournal


def is_to_examine(journal: SearchJournal) -> bool:
    """Whether the data are to be examined: not again by a resumed search, nor by each search of a comparison's rows."""
    started = journal.history.started
    return journal.history.data_findings is None and (started is None or started.row is None)


def record_findings(
    space: SearchExperiment, near_twins: NearTwins | None, journal: SearchJournal, observer: Observer
) -> None:
    """Records what was found in the data, and says it. Names and hashes are those of the run's inventory."""
    config = next(space.samples())
    splits, inventories = plan_splits(config), read_inventories(journal.directory)
    groups = group_numbers(splits.train)
    pairs = identical_pairs(inventories[0], splits, config) if inventories else []
    findings = DataFindings(
        num_validated=None if near_twins is None else near_twins.num_validated,
        num_with_twin=None if near_twins is None else near_twins.num_with_twin,
        num_test=len(splits.test),
        num_identical=len(pairs),
        identical=tuple(pairs[:NAMED]),
        grouped_by=config.group_by,
        num_train=len(splits.train),
        num_groups=None if groups is None else len(np.unique(groups)),
    )
    journal.append(DataExamined(findings=findings))
    for note in filter(None, (findings.grouping, *findings.notes)):
        observer.say(note)
