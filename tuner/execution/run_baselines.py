"""Baselines of a search: scored before the first trial, on the same folds."""

from __future__ import annotations

import shutil
from contextlib import closing

from trainables.config import TrialConfig
from trainables.data.loading import source_key
from trainables.errors import BadInput
from tuner.cluster.baselines import train_baseline
from tuner.cluster.free_gpu import spread_over_free
from tuner.cluster.gpu_probe import retry_with_larger_share
from tuner.cluster.probes import ProbesByKey, SharedProbes, share_probes
from tuner.cluster.tasks import WorkerFailed
from tuner.cluster.trainable import ImagesByKey
from tuner.cluster.worker_reports import FoldFailed
from tuner.execution.data_examination import is_to_examine, record_findings
from tuner.execution.observer import Observer
from tuner.experiment.baselines import baseline_configs
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import Baseline
from tuner.experiment.tree import flatten
from tuner.messages.redaction import without_credentials
from tuner.record.configs import config_of
from tuner.record.events import BaselineFailed, BaselineFoldFinished, BaselineStarted
from tuner.record.journal import SearchJournal
from tuner.record.predictions import PredictionFiles
from tuner.resources.share import Share


def start_baselines(space: SearchExperiment, journal: SearchJournal) -> None:
    """Records the start of each of `search.baselines` that has none, or why the experiment has no such baseline."""
    for name, config in baseline_configs(space).items():
        if name in journal.history.baselines:
            continue
        if isinstance(config, BadInput):
            reason = "; ".join(map(str, config.problems))
            journal.append(BaselineFailed(baseline=name, reason=without_credentials(reason)))
        else:
            leaves = flatten(config.model_dump(mode="json"))
            journal.append(BaselineStarted(baseline=name, config=leaves, num_folds=space.search.num_trial_folds))


def search_probes(
    space: SearchExperiment, images: ImagesByKey, share: Share, journal: SearchJournal, observer: Observer
) -> ProbesByKey:
    """Computes the probes that trials and baselines start from, and examines the data, from the same features.

    Where that fails, each training computes its own probe.
    """
    baselines = [config_of(record, space) for record in journal.history.baselines.values() if record.config]
    examines = is_to_examine(journal)
    shared = SharedProbes({})
    try:
        shared = share_probes([*space.boundary_configs(), *baselines], images, space.search, share, examines)
    except WorkerFailed as failure:
        observer.say(f"each training computes its own linear probe, as computing them together failed: {failure}")
    if examines:
        record_findings(space, shared.near_twins, journal, observer)
    return shared.probes


def run_baselines(
    space: SearchExperiment,
    images: ImagesByKey,
    probes: ProbesByKey,
    share: Share,
    journal: SearchJournal,
    observer: Observer,
) -> None:
    """Trains every fold that a started baseline lacks. One that fails is left out, and the search goes on without it.

    Raises:
        MemoryError: if the examples do not fit into the object store.
    """
    for name, record in list(journal.history.baselines.items()):
        if not record.missing_folds:
            continue
        observer.enter_phase(f"scoring the baseline: {record.label}")
        config = config_of(record, space)
        try:
            _train_missing(name, config, space, images, probes, share, journal)
        except WorkerFailed as failure:
            journal.append(BaselineFailed(baseline=name, reason=without_credentials(str(failure))))
        if record.state != "running":
            shutil.rmtree(journal.directory.trial_checkpoints(name), ignore_errors=True)


def _train_missing(
    name: Baseline,
    config: TrialConfig,
    space: SearchExperiment,
    images: ImagesByKey,
    probes: ProbesByKey,
    share: Share,
    journal: SearchJournal,
) -> None:
    record, examples = journal.history.baselines[name], images[source_key(config.data)]

    def train(share: Share) -> None:
        folds = record.missing_folds
        if not folds:
            return
        spread = spread_over_free(share, len(folds))
        reports = train_baseline(name, config, folds, examples, probes, space.search, spread, journal.directory)
        with closing(reports):
            for report in reports:
                if isinstance(report, FoldFailed):
                    journal.append(BaselineFailed(baseline=name, reason=without_credentials(report.reason)))
                    return
                if report.predictions is not None:
                    PredictionFiles(journal.directory).add_fold(name, report.fold, report.predictions)
                journal.append(BaselineFoldFinished(baseline=name, result=report.result))

    retry_with_larger_share(share, journal, train)
