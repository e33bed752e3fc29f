"""Steps of a search: score the baselines, run the trials, retrain the best of both, register a model, write the report.

`tuner.search` and the Python API run all of them, the search of a comparison's row only `search_trials`.
"""

from __future__ import annotations

import time
from dataclasses import replace

from trainables.data.folds import num_dealt
from tuner.cluster.free_gpu import spread_over_free
from tuner.cluster.gpu_probe import resolve_share
from tuner.cluster.probes import ProbesByKey
from tuner.cluster.trainable import ImagesByKey
from tuner.cluster.tune import run_trials
from tuner.execution.evaluating import evaluate_model, keep_batch_picture, keep_example_names
from tuner.execution.hardware import decided_precisions, record_hardware
from tuner.execution.observer import Observer
from tuner.execution.retraining import register, retrain_contenders
from tuner.execution.run_baselines import run_baselines, search_probes, start_baselines
from tuner.execution.run_context import SearchContext, end_recorded, search_ended, wait_for_mlflow
from tuner.execution.time_budget import timed_scope
from tuner.experiment.checks import Plan
from tuner.experiment.search_experiment import SearchExperiment, with_precisions
from tuner.messages.wording import counted
from tuner.record.baselines import BaselineRecord
from tuner.record.directory import RunDirectory
from tuner.record.events import SearchEnded, SearchStarted
from tuner.record.history import SearchHistory
from tuner.record.journal import SearchJournal
from tuner.record.selection import best_trial, winner_of
from tuner.reports.search_result import SearchResult, search_result_of
from tuner.reports.write import try_to_write_report
from tuner.resources.share import Share
from tuner.scheduling.minutes import TimeBudget, seeds_in_time
from tuner.scheduling.scheduler import TrialScheduler
from tuner.scheduling.warm_start import apply_warm_start


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
    space = with_precisions(space, decided_precisions(context.share, journal.history))
    plan, asked_seeds = replace(plan, space=space).shortened(journal.history.training_length), space.retrain.seeds
    scope = timed_scope(context, plan, images, observer, started_s)
    plan = plan if scope is None else scope.plan
    space = plan.space
    with end_recorded(journal, search_ended):
        journal.append(search_started(space, context.directory, training_length=plan.training_length))
        record_hardware(context.share, journal, observer)
        if context.share.is_auto:
            observer.enter_phase("measuring the GPU memory of a trial")
        share = resolve_share(context.share, [space], images, plan.num_folds, journal)
        observer.concurrency = space.search.folds_at_once(share.concurrency, plan.num_trials)
        keep_example_names(space, images, context.directory)
        start_baselines(space, journal)
        probes = search_probes(space, images, share, journal, observer)
        run_baselines(space, images, probes, share, journal, observer)
        ending = search_trials(space, images, share, journal, observer, probes, None if scope is None else scope.budget)
        if scope is not None and scope.budget.has_trials:
            budget = replace(scope.budget, places=share.concurrency)
            space = _with_seeds_in_time(space, asked_seeds, budget, journal.history, observer)
        retrain_contenders(space, images, probes, share, journal, observer)
        evaluate_model(space, images, context.directory, journal.history, observer)
        register(context, space, images, observer)
        duration_s = time.monotonic() - started_s
        result = search_result_of(space, context.directory, journal.history, context.uri, duration_s, ending)
        journal.append(_ended(result, journal.history, ending, duration_s))
        keep_batch_picture(space, images, context.directory, journal.history)
        report = try_to_write_report(context.directory, observer.say)
        wait_for_mlflow(context, observer)
        return result.model_copy(update={"report": None if report is None else str(report)})


def search_started(
    space: SearchExperiment,
    directory: RunDirectory,
    row: str | None = None,
    column: str | None = None,
    training_length: float = 1.0,
) -> SearchStarted:
    """Makes the first event of a search in `directory`, for whose fields see `SearchStarted`."""
    return SearchStarted(
        name=space.name,
        run=directory.run,
        space=space.as_tree(),
        dimensions=space.dimension_words,
        row=row,
        column=column,
        training_length=training_length,
    )


def num_jobs_left(space: SearchExperiment, history: SearchHistory) -> int | None:
    """Counts the trainings that workers may do beside each other: folds that the trials lack, or trials where their
    folds are not trained in parallel. None without a limit of trials."""
    search, num_trials = space.search, space.search.trials if space.dimensions else 1
    if num_trials is None:
        return None
    started = history.trials.values()
    running = [trial for trial in started if trial.state == "running"]
    num_new = max(0, num_trials - len(started))
    if search.folds_in_parallel is False:
        return num_new + len(running)
    return (num_new + len(running)) * search.num_trial_folds - sum(len(trial.folds) for trial in running)


def search_trials(
    space: SearchExperiment,
    images: ImagesByKey,
    share: Share,
    journal: SearchJournal,
    observer: Observer,
    probes: ProbesByKey | None = None,
    time_budget: TimeBudget | None = None,
) -> str:
    """Runs all trials that are left, after the warm start. Returns why there are no more.

    `probes` are from `search_probes`. The test split is not loaded.
    """
    num_trials = space.search.trials if space.dimensions else 1
    share = spread_over_free(share, num_jobs_left(space, journal.history))
    if time_budget is not None:
        time_budget = replace(time_budget, places=share.concurrency)
    for line in (*filter(None, [share.note]), *apply_warm_start(space, journal)):
        observer.say(line)
    observer.enter_phase(f"searching, {share.concurrency} trials at once")
    num_train = {key: num_dealt(split) for key, split in images.items()}
    scheduler = TrialScheduler(space, journal, num_train=num_train, time_budget=time_budget)

    def note_capacity(changed: Share) -> None:
        observer.concurrency = space.search.folds_at_once(changed.concurrency, num_trials)
        observer.say(f"the cluster has changed: room for {counted(changed.concurrency, 'trial')} at once")

    run_trials(scheduler, images, share, probes, note_capacity)
    return scheduler.ending


def _with_seeds_in_time(
    space: SearchExperiment, asked: int, budget: TimeBudget, history: SearchHistory, observer: Observer
) -> SearchExperiment:
    """The experiment with as many of the retrainings that were left out as there is time for after all."""
    planned = space.retrain.seeds
    seeds = seeds_in_time(budget, history, planned, asked, time.monotonic())
    if seeds > planned:
        observer.say(f"the trials have left time for {counted(seeds - planned, 'further retraining')} of the best")
    return replace(space, retrain=space.retrain.model_copy(update={"seeds": seeds}))


def _ended(result: SearchResult, history: SearchHistory, ending: str, duration_s: float) -> SearchEnded:
    best = best_trial(history.trials.values())
    winner = winner_of(history.trials.values(), history.baselines.values())
    return SearchEnded(
        outcome="finished",
        why=ending,
        best_trial=None if best is None else best.number,
        best_baseline=winner.name if isinstance(winner, BaselineRecord) else None,
        val_top1=result.val_top1,
        test_top1_mean=result.test_top1_mean,
        test_top1_sd=result.test_top1_sd,
        model_uri=result.model_uri,
        duration_s=duration_s,
    )
