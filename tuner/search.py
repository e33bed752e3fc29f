"""The search command, and the story that it tells: load the experiment, run its trials, retrain the best, say what
was found.

python -m tuner.search --space search_spaces/smile.yaml
"""

from __future__ import annotations

import argparse
import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from trainables.data.loading import load_test, source_key
from trainables.errors import BadInput
from trainables.results import RetrainResult
from trainables.trial import MODEL_SEED
from tuner.cli.arguments import FAILED, FOUND, experiment_parser, guarded, overrides_of, parsed, with_space
from tuner.cli.dry_run import print_plan
from tuner.cli.search_progress import SearchProgress
from tuner.cluster.gpu_probe import resolve_share, retry_with_larger_share
from tuner.cluster.retraining import retrain
from tuner.cluster.trainable import ImagesByKey, decoded_bytes
from tuner.cluster.tune import run_trials
from tuner.execution.run_context import FLUSH_TIMEOUT_S, run_guarded, session
from tuner.experiment.checks import Plan, check_experiment, load_images, problems_of_sections
from tuner.experiment.extends import locate_problems
from tuner.experiment.search_experiment import SearchExperiment, load_experiment, parse_experiment, read_tree
from tuner.experiment.smoke import smoke_overrides
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import one_line
from tuner.record.background import BackgroundSync
from tuner.record.history import History, TrialRecord
from tuner.record.journal import Journal
from tuner.record.selection import best_trial
from tuner.reports.search_result import SearchResult, closing_lines, search_result_of
from tuner.reports.write import write_report
from tuner.resources.share import Share
from tuner.scheduling.scheduler import TrialScheduler
from tuner.scheduling.warm_start import WarmStart, apply_warm_start, collect_warm_start
from tuner.tracking.registry import TrackingFailed, register_model

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0: a best configuration was found; 2: bad input; 1: anything else."""
    arguments = parsed(parser(), argv)
    return guarded(lambda: run(with_space(arguments)))


def parser() -> argparse.ArgumentParser:
    """The command line; a contract, held by a test."""
    parser = experiment_parser("search")
    parser.add_argument("--trials", type=int, metavar="N", help="override search.trials")
    help = "learn from an earlier search: its directory, name or name/run, or MLflow run id; repeatable"
    parser.add_argument("--warm-start", action="append", metavar="RUN", help=help)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """From the arguments to the exit code."""
    with locate_problems(arguments.space, dict(arguments.set)):
        space = resolve_space(arguments)
        plan = check_experiment(space)
        learnt = WarmStart() if arguments.resume else collect_warm_start(space)
    if arguments.dry_run:
        print_plan(Console(highlight=False), space, plan, arguments.address, learnt.said)
        return FOUND
    outcome = search(space, plan, arguments.address, bool(arguments.resume))
    if outcome is None:
        return FAILED
    if arguments.json:
        outcome.write(arguments.json)
    return FOUND if outcome.best_trial is not None else FAILED


def resolve_space(arguments: argparse.Namespace) -> SearchExperiment:
    """The experiment that the command line asks for: the file, what overrides it, and `--smoke`'s shrinking."""
    given = {"search.trials": arguments.trials, "search.warm_start": arguments.warm_start}
    overrides = overrides_of(arguments) | {key: value for key, value in given.items() if value is not None}
    tree = read_tree(arguments.space, overrides)
    try:
        space = parse_experiment(tree, str(arguments.space))
    except BadInput as bad:
        others = BadInput(problems_of_sections(tree)).in_file(str(arguments.space))
        raise BadInput([*bad.problems, *others.problems]) from None
    if arguments.smoke:
        space = load_experiment(arguments.space, overrides | smoke_overrides(space))
    return space


def search(
    space: SearchExperiment, plan: Plan, address: str | None = None, resume: bool = False
) -> SearchResult | None:
    """Runs a checked experiment, or goes on with its latest run; None where it was cut off, which has then been said.

    Raises:
        BadInput: before the first trial, with everything that stands in the way.
    """
    started = time.monotonic()
    images = load_images(space)
    with (
        session(space, str(plan), address, resume, decoded_bytes(images)) as running,
        SearchProgress(running.screen, space, plan.num_trials, running.share.concurrency) as progress,
    ):
        directory, journal = running.directory, running.journal
        journal.listeners.append(progress)

        def story() -> SearchResult:
            journal.append("search_started", name=space.name, run=directory.name, **space.described())
            if running.share.is_auto:
                progress.enter_phase("measuring what a trial needs of a card")
            share = resolve_share(running.share, [space], images, plan.num_folds, journal)
            progress.concurrency = space.search.folds_at_once(share.concurrency, plan.num_trials)
            why = search_and_retrain(space, images, share, journal, progress)
            model_uri = register(space, journal, images, running.uri, running.tracker, progress)
            seconds = time.monotonic() - started
            outcome = search_result_of(space, directory, journal.history, running.uri, model_uri, seconds, why)
            journal.append("search_finished", why=why, **_summary(outcome, journal.history))
            say_report(directory, progress)
            return outcome

        outcome = run_guarded(running, progress, "search", story)
        if outcome is not None:
            progress.show(closing_lines(outcome, journal.history))
        return outcome


def search_and_retrain(
    space: SearchExperiment, images: ImagesByKey, share: Share, journal: Journal, progress: SearchProgress
) -> str:
    """All trials, then what validation has chosen of them, on the full training split. Returns why no more trials."""
    for line in (*filter(None, [share.note]), *apply_warm_start(space, journal)):
        progress.say(line)
    progress.enter_phase(f"searching, {share.concurrency} trials at once")
    scheduler = TrialScheduler(space, journal)
    run_trials(scheduler, images, share, journal.directory / "ray")
    best = best_trial(journal.history.trials.values())
    if best is not None and space.retrain.seeds:
        progress.enter_phase("retraining the best configuration")
        retrain_best(space, best, images, share, journal)
    return scheduler.ending


def register(
    space: SearchExperiment,
    journal: Journal,
    images: ImagesByKey,
    uri: str,
    tracker: BackgroundSync,
    progress: SearchProgress,
) -> str | None:
    """Registers the retrained model; without MLflow it stays in the experiment directory, which is then said."""
    best = best_trial(journal.history.trials.values())
    if best is None or not journal.history.retrainings(best.number):
        return None
    if MODEL_SEED not in journal.history.retrainings(best.number):
        progress.say(f"no model is registered: it would be that of seed {MODEL_SEED}, which broke off")
        return None
    if (registered := journal.history.model_uri(best.number)) is not None:
        return registered  # by the run that this one goes on from
    progress.enter_phase("registering the model")
    model, example = journal.directory / "model", next(iter(images.values())).sample(2)
    try:
        if not tracker.flush(FLUSH_TIMEOUT_S):
            raise TrackingFailed("the store does not answer")
        model_uri = register_model(
            uri, space.name, journal.directory.name, MODEL_SEED, model, space.model_name, example
        )
        journal.append("model_registered", trial=best.number, uri=model_uri)
        return model_uri
    except TrackingFailed as failure:
        progress.say(f"the model is not registered ({failure}); it lies in {model}")
        return None


def say_report(directory: Path, progress: SearchProgress) -> None:
    """Writes the report. One that fails is said, and takes nothing else with it."""
    try:
        progress.say(f"report: {write_report(directory)}")
    except Exception as error:
        logger.exception("there is no report")
        again = f"python -m tuner.report {shlex.quote(str(directory))}"
        progress.say(f"there is no report ({without_credentials(one_line(error))}); try: {again}")


def retrain_best(
    space: SearchExperiment, best: TrialRecord, images: ImagesByKey, share: Share, journal: Journal
) -> None:
    """Retrains what validation has chosen, with every seed that has not been; the test split is loaded here."""
    config = space.trial_config(best.params)

    def retrain_missing(share: Share) -> None:
        history = journal.history
        done = history.retrainings(best.number).keys() | history.failed_retrainings(best.number).keys()
        seeds = [seed for seed in range(space.retrain.seeds) if seed not in done]
        if seeds:
            train, test = images[source_key(config.data)], load_test(config.data)
            period_s = space.search.checkpoint_period_s
            for retrained in retrain(config, seeds, train, test, share, journal.directory, period_s):
                kind = "retrain_finished" if isinstance(retrained, RetrainResult) else "retrain_failed"
                journal.append(kind, trial=best.number, **asdict(retrained))

    retry_with_larger_share(share, journal, retrain_missing, trial=best.number)


def _summary(outcome: SearchResult, history: History) -> dict[str, Any]:
    keys = ("val_top1", "test_top1_mean", "test_top1_sd", "model_uri", "seconds")
    best = best_trial(history.trials.values())
    scores = {key: value for key, value in asdict(outcome).items() if key in keys}
    return {"best_trial": None if best is None else best.number, **scores}


if __name__ == "__main__":
    raise SystemExit(main())
