"""Steps of a search: run the trials, retrain the best configuration, register its model, write the report.

`tuner.search` and the Python API run all of them, the search of a comparison's row only `search_trials`.
"""

from __future__ import annotations

import time
from dataclasses import replace

from trainables.data.loading import load_test, source_key
from trainables.results import RetrainResult
from trainables.trial import MODEL_SEED
from tuner.cluster.gpu_probe import resolve_share, retry_with_larger_share
from tuner.cluster.retraining import retrain
from tuner.cluster.trainable import ImagesByKey
from tuner.cluster.tune import run_trials
from tuner.execution.observer import Observer
from tuner.execution.run_context import FLUSH_TIMEOUT_S, RunContext, end_recorded, search_ended, wait_for_mlflow
from tuner.execution.time_budget import timed_budget
from tuner.experiment.checks import Plan
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.directory import RunDirectory
from tuner.record.events import ModelRegistered, RetrainingFailed, RetrainingFinished, SearchEnded, SearchStarted
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.journal import SearchJournal
from tuner.record.selection import best_trial
from tuner.reports.search_result import SearchResult, search_result_of
from tuner.reports.write import try_to_write_report
from tuner.resources.share import Share
from tuner.scheduling.minutes import TimeBudget
from tuner.scheduling.scheduler import TrialScheduler
from tuner.scheduling.warm_start import apply_warm_start

SearchContext = RunContext[SearchHistory]


def run_search(
    context: SearchContext,
    space: SearchExperiment,
    plan: Plan,
    images: ImagesByKey,
    observer: Observer,
    started_s: float | None = None,
) -> SearchResult:
    """Runs a checked experiment, or the rest of a resumed one, and returns its result.

    `images` are from `load_images`. Every outcome is recorded in the journal. A caller opens the context:

        plan = check_search(space)
        space, images = plan.space, load_images(space)
        with (
            run_directory(space, resume=False, say=print) as directory,
            open_run(space, directory, SearchHistory(), None, decoded_bytes(images), say=print) as context,
        ):
            result = run_search(context, space, plan, images, observer)

    `started_s` is the reading of `time.monotonic` from which `search.minutes` count (None: now).

    Raises:
        BadInput: before the first event, if `search.minutes` are too few.
        KeyboardInterrupt: if it is interrupted, after the journal has recorded it; finished folds are kept.
        Exception: any error that ended it, likewise.
    """
    started_s, journal = time.monotonic() if started_s is None else started_s, context.journal
    time_budget = timed_budget(context, plan, images, observer, started_s)
    with end_recorded(journal, search_ended):
        journal.append(search_started(space, context.directory))
        if context.share.is_auto:
            observer.enter_phase("measuring the GPU memory of a trial")
        share = resolve_share(context.share, [space], images, plan.num_folds, journal)
        observer.concurrency = space.search.folds_at_once(share.concurrency, plan.num_trials)
        ending = search_trials(space, images, share, journal, observer, time_budget)
        best = best_trial(journal.history.trials.values())
        if best is not None and space.retrain.seeds:
            observer.enter_phase("retraining the best configuration")
            retrain_best(space, best, images, share, journal)
        register(context, space, images, observer)
        duration_s = time.monotonic() - started_s
        result = search_result_of(space, context.directory, journal.history, context.uri, duration_s, ending)
        journal.append(_ended(result, best, ending, duration_s))
        report = try_to_write_report(context.directory, observer.say)
        wait_for_mlflow(context, observer)
        return result.model_copy(update={"report": None if report is None else str(report)})


def search_started(
    space: SearchExperiment, directory: RunDirectory, row: str | None = None, column: str | None = None
) -> SearchStarted:
    """Makes the first event of a search in `directory`; `row` and `column` are a comparison's."""
    return SearchStarted(
        name=space.name,
        run=directory.run,
        space=space.as_tree(),
        dimensions=space.dimension_words,
        row=row,
        column=column,
    )


def search_trials(
    space: SearchExperiment,
    images: ImagesByKey,
    share: Share,
    journal: SearchJournal,
    observer: Observer,
    time_budget: TimeBudget | None = None,
) -> str:
    """Runs all trials that are left, after the warm start. Returns why there are no more.

    The test split is not loaded.
    """
    if time_budget is not None:
        time_budget = replace(time_budget, places=share.concurrency)
    for line in (*filter(None, [share.note]), *apply_warm_start(space, journal)):
        observer.say(line)
    observer.enter_phase(f"searching, {share.concurrency} trials at once")
    num_train = {key: len(split) for key, split in images.items()}
    scheduler = TrialScheduler(space, journal, num_train=num_train, time_budget=time_budget)
    run_trials(scheduler, images, share)
    return scheduler.ending


def retrain_best(
    space: SearchExperiment, best: TrialRecord, images: ImagesByKey, share: Share, journal: SearchJournal
) -> None:
    """Retrains the best configuration with every seed that is left. The test split is loaded only here."""
    config = space.trial_config(best.params)

    def retrain_missing(share: Share) -> None:
        history = journal.history
        done = history.retrainings(best.number).keys() | history.failed_retrainings(best.number).keys()
        seeds = [seed for seed in range(space.retrain.seeds) if seed not in done]
        if not seeds:
            return
        train, test = images[source_key(config.data)], load_test(config.data)
        period_s = space.search.checkpoint_period_s
        for result in retrain(config, seeds, train, test, share, journal.directory, period_s):
            if isinstance(result, RetrainResult):
                journal.append(RetrainingFinished(trial=best.number, result=result))
            else:
                journal.append(RetrainingFailed(trial=best.number, seed=result.seed, reason=result.reason))

    retry_with_larger_share(share, journal, retrain_missing, trial=best.number)


def register(context: SearchContext, space: SearchExperiment, images: ImagesByKey, observer: Observer) -> str | None:
    """Registers the retrained model and returns its URI.

    Returns None if there is no model, or MLflow fails; the observer then says where the model is.
    """
    from tuner.tracking.registry import TrackingFailed, register_model  # slow to import, and only needed at the end

    history = context.journal.history
    best = best_trial(history.trials.values())
    if best is None or not history.retrainings(best.number):
        return None
    if MODEL_SEED not in history.retrainings(best.number):
        observer.say(f"no model is registered: it would be that of seed {MODEL_SEED}, which diverged")
        return None
    if (registered := history.model_uri(best.number)) is not None:
        return registered  # before this run was resumed
    observer.enter_phase("registering the model")
    model, example = context.directory.model, next(iter(images.values())).sample(2)
    try:
        if not context.sync.flush(FLUSH_TIMEOUT_S):
            raise TrackingFailed("the store does not answer")
        model_uri = register_model(
            context.uri, space.name, context.directory.run, MODEL_SEED, model, space.model_name, example
        )
        context.journal.append(ModelRegistered(trial=best.number, uri=model_uri))
        return model_uri
    except TrackingFailed as failure:
        observer.say(f"the model is not registered ({failure}); it is in {model}")
        return None


def _ended(result: SearchResult, best: TrialRecord | None, ending: str, duration_s: float) -> SearchEnded:
    return SearchEnded(
        outcome="finished",
        why=ending,
        best_trial=None if best is None else best.number,
        val_top1=result.val_top1,
        test_top1_mean=result.test_top1_mean,
        test_top1_sd=result.test_top1_sd,
        model_uri=result.model_uri,
        duration_s=duration_s,
    )
