"""Retraining of the best trial and of the baselines, and registering of the winner's model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from trainables.classifier import read_description
from trainables.errors import BadInput
from trainables.files import write_whole
from trainables.results import RetrainFailed, RetrainResult
from trainables.trial import MODEL_SEED
from tuner.cluster.free_gpu import spread_over_free
from tuner.cluster.gpu_probe import retry_with_larger_share
from tuner.cluster.probes import ProbesByKey
from tuner.cluster.retraining import Retraining, make_ensemble, retrain
from tuner.cluster.tasks import WorkerFailed
from tuner.cluster.trainable import ImagesByKey
from tuner.execution.observer import Observer
from tuner.execution.run_context import FLUSH_TIMEOUT_S, SearchContext
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.baselines import SEEDLESS, BaselineRecord
from tuner.record.configs import config_of
from tuner.record.events import (
    BaselineRetrained,
    BaselineRetrainingFailed,
    EnsembleTested,
    RetrainingFailed,
    RetrainingFinished,
)
from tuner.record.history import RetrainingEvent, SearchHistory, TrialRecord
from tuner.record.journal import SearchJournal
from tuner.record.registration import model_registered
from tuner.record.selection import best_trial, winner_of
from tuner.reports.model_card import model_card
from tuner.reports.search_result import search_result_of
from tuner.resources.share import Share

Record = TrialRecord | BaselineRecord


def retrain_contenders(
    space: SearchExperiment,
    images: ImagesByKey,
    probes: ProbesByKey,
    share: Share,
    journal: SearchJournal,
    observer: Observer,
) -> None:
    """Retrains the winner, and what it is compared with, with every seed that is left.

    The winner is the best trial or a baseline; the others follow, for their test scores. One whose training is the same
    for every seed is trained once. The test split is loaded only here.

    Raises:
        WorkerFailed: if a training of the winner raised an error, or its process died too often. Where that happens
            to the others alone, the observer says so.
    """
    records = contenders(journal.history)
    if not space.retrain.baselines:
        records = [record for record in records if record is records[0] or record.key != "fine_tuning"]
    if not records:
        return
    if any(missing_retrainings(space, records, journal.history)):
        _retrain_missing(space, records, images, probes, share, journal, observer)
    if space.retrain.ensemble:
        _make_ensemble(space, records[0], images, share, journal, observer)


def _retrain_missing(
    space: SearchExperiment,
    records: Sequence[Record],
    images: ImagesByKey,
    probes: ProbesByKey,
    share: Share,
    journal: SearchJournal,
    observer: Observer,
) -> None:
    observer.enter_phase("retraining the best configuration" + (" and the baselines" if len(records) > 1 else ""))
    try:
        _retrain(space, records, images, probes, share, journal)
    except WorkerFailed as failure:
        if len(records) == 1:
            raise
        _retrain(space, records[:1], images, probes, share, journal)
        observer.say(f"not everything that the winner is compared with could be retrained: {failure}")


def contenders(history: SearchHistory) -> list[Record]:
    """Lists what is retrained: the winner first, then the best trial and the complete baselines that it is not."""
    trials, baselines = history.trials.values(), history.baselines.values()
    winner, best = winner_of(trials, baselines), best_trial(trials)
    if winner is None:
        return []
    others = [best, *(baseline for baseline in baselines if baseline.state == "complete")]
    return [winner, *(other for other in others if other is not None and other is not winner)]


def missing_retrainings(
    space: SearchExperiment, records: Sequence[Record], history: SearchHistory
) -> Iterator[Retraining]:
    """Yields the retrainings of `records` that are left.

    The network of the first one's `MODEL_SEED` is the model, or all networks of the first are members of an ensemble.
    """
    for record in records:
        seeds = min(1, space.retrain.seeds) if record.key in SEEDLESS else space.retrain.seeds
        done = history.retrainings(record.key).keys() | history.failed_retrainings(record.key).keys()
        config = config_of(record, space)
        for seed in range(seeds):
            if seed not in done:
                is_winner, is_ensemble = record is records[0], space.retrain.ensemble
                makes_model = is_winner and seed == MODEL_SEED and not is_ensemble
                is_member = is_winner and is_ensemble
                yield Retraining(record.key, config, seed, makes_model, is_member, record.kept_share)


def _retrain(
    space: SearchExperiment,
    records: Sequence[Record],
    images: ImagesByKey,
    probes: ProbesByKey,
    share: Share,
    journal: SearchJournal,
) -> None:
    def retrain_missing(share: Share) -> None:
        missing = list(missing_retrainings(space, records, journal.history))
        if missing:
            period_s = space.search.checkpoint_period_s
            spread = spread_over_free(share, len(missing))
            for each, result in retrain(missing, images, probes, spread, journal.directory, period_s):
                journal.append(_event(each, result))

    trial = next((record.number for record in records if isinstance(record, TrialRecord)), None)
    retry_with_larger_share(share, journal, retrain_missing, trial=trial)


def _make_ensemble(
    space: SearchExperiment,
    winner: Record,
    images: ImagesByKey,
    share: Share,
    journal: SearchJournal,
    observer: Observer,
) -> None:
    """Makes one model of the winner's retrainings, unless that has been done; of those whose networks are here."""
    if journal.history.ensemble(winner.key) is not None:
        return
    seeds = [s for s in journal.history.retrainings(winner.key) if journal.directory.ensemble_member(s).is_dir()]
    if not seeds:
        return
    observer.enter_phase("making one model of the retrained networks")
    result = make_ensemble(winner.key, config_of(winner, space), seeds, images, share, journal.directory)
    baseline = winner.name if isinstance(winner, BaselineRecord) else None
    trial = winner.number if isinstance(winner, TrialRecord) else None
    journal.append(EnsembleTested(trial=trial, baseline=baseline, result=result))


def _event(each: Retraining, result: RetrainResult | RetrainFailed) -> RetrainingEvent:
    if isinstance(each.of, int):
        if isinstance(result, RetrainResult):
            return RetrainingFinished(trial=each.of, result=result)
        return RetrainingFailed(trial=each.of, seed=result.seed, reason=result.reason)
    if isinstance(result, RetrainResult):
        return BaselineRetrained(baseline=each.of, result=result)
    return BaselineRetrainingFailed(baseline=each.of, seed=result.seed, reason=result.reason)


def register(context: SearchContext, space: SearchExperiment, images: ImagesByKey, observer: Observer) -> str | None:
    """Registers the winner's retrained model and returns its URI.

    Returns None if there is no model, or MLflow fails; the observer then says where the model is.
    """
    from tuner.tracking.registry import TrackingFailed, register_model  # slow to import, and only needed at the end

    history = context.journal.history
    winner = winner_of(history.trials.values(), history.baselines.values())
    if winner is None or not (history.retrainings(winner.key) or history.failed_retrainings(winner.key)):
        return None
    has_ensemble = history.ensemble(winner.key) is not None
    if MODEL_SEED not in history.retrainings(winner.key) and not has_ensemble:
        reason = history.failed_retrainings(winner.key).get(MODEL_SEED, "is missing")
        observer.say(f"no model is registered: it would be that of seed {MODEL_SEED}, which {reason}")
        return None
    if (registered := history.model_uri(winner.key)) is not None:
        return registered  # before this run was resumed
    observer.enter_phase("registering the model")
    _write_model_card(context, space, images, observer)
    model, example = context.directory.model, next(iter(images.values())).sample(2)
    baseline = winner.name if isinstance(winner, BaselineRecord) else None
    try:
        if not context.sync.flush(FLUSH_TIMEOUT_S):
            raise TrackingFailed("the store does not answer")
        run = context.directory.run
        seed = None if has_ensemble else MODEL_SEED
        model_uri = register_model(context.uri, space.name, run, seed, model, space.model_name, example, baseline)
        context.journal.append(model_registered(history, winner, model_uri, MODEL_SEED))
        return model_uri
    except TrackingFailed as failure:
        observer.say(f"the model is not registered ({failure}); it is in {model}")
        return None


def _write_model_card(context: SearchContext, space: SearchExperiment, images: ImagesByKey, observer: Observer) -> None:
    """Writes the model card among the model's files. Says why if it cannot: the model stands without it."""
    directory = context.directory
    try:
        model = read_description(directory.model)
        result = search_result_of(space, directory, context.journal.history, context.uri, duration_s=0)
        num_train = len(next(iter(images.values())))
        card = model_card(space.model_name, result, model, MODEL_SEED, num_train, time.time())
        write_whole(directory.model_card, card.encode())
    except (BadInput, OSError) as error:
        observer.say(f"there is no model card: {error}")
