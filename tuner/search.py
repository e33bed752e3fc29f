"""The search command, and the story that it tells: load the experiment, run its trials, retrain the best, say what
was found.

python -m tuner.search --space search_spaces/smile.yaml
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from trainables.data.loading import load_test, source_key
from trainables.errors import BadInput
from tuner.cli import FAILED, FOUND, experiment_parser, guarded, overrides_of
from tuner.cluster import Share
from tuner.conductor import Conductor
from tuner.dry_run import print_plan
from tuner.experiment import Plan, check_experiment, load_images, problems_of_sections, smoke_overrides
from tuner.extends import problems_where_they_stand
from tuner.journal import History, Journal, TrialRecord
from tuner.outcome import Outcome, closing_lines, outcome_of
from tuner.progress import Progress
from tuner.retrain import MODEL_SEED, Retrained, retrain
from tuner.selection import best_trial
from tuner.session import FLUSH_TIMEOUT_S, carried_through, session
from tuner.space import SearchSpace, load_space, parse_space, read_tree
from tuner.tracking import Tracker, TrackingFailed, register_model
from tuner.trials import ImagesByKey, run_trials


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0: a best configuration was found; 2: bad input; 1: anything else."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """The command line; a contract, held by a test."""
    parser = experiment_parser("python -m tuner.search", "Search, retrain, register a model.")
    parser.add_argument("--trials", type=int, metavar="N", help="override search.trials")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """From the arguments to the exit code."""
    with problems_where_they_stand(arguments.space, dict(arguments.set)):
        space = resolve_space(arguments)
        plan = check_experiment(space)
    if arguments.dry_run:
        print_plan(Console(highlight=False), space, plan, arguments.address)
        return FOUND
    outcome = search(space, plan, arguments.address, arguments.resume)
    if outcome is None:
        return FAILED
    if arguments.json:
        outcome.write(arguments.json)
    return FOUND if outcome.best_trial is not None else FAILED


def resolve_space(arguments: argparse.Namespace) -> SearchSpace:
    """The experiment that the command line asks for: the file, what overrides it, and `--smoke`'s shrinking."""
    trials = {} if arguments.trials is None else {"search.trials": arguments.trials}
    overrides = overrides_of(arguments) | trials
    tree = read_tree(arguments.space, overrides)
    try:
        space = parse_space(tree, str(arguments.space))
    except BadInput as bad:
        others = BadInput(problems_of_sections(tree)).in_file(str(arguments.space))
        raise BadInput([*bad.problems, *others.problems]) from None
    if arguments.smoke:
        space = load_space(arguments.space, overrides | smoke_overrides(space))
    return space


def search(space: SearchSpace, plan: Plan, address: str | None = None, resume: bool = False) -> Outcome | None:
    """Runs a checked experiment, or goes on with its latest run; None where it was cut off, which has then been said.

    Raises:
        BadInput: before the first trial, with everything that stands in the way.
    """
    started = time.monotonic()
    images = load_images(space)
    with (
        session(space, str(plan), address, resume) as running,
        Progress(running.screen, space, plan.num_trials, running.share.concurrency) as progress,
    ):
        directory, journal = running.directory, running.journal
        journal.listeners.append(progress)

        def story() -> Outcome:
            journal.append("search_started", name=space.name, run=directory.name, **space.described())
            search_and_retrain(space, images, running.share, journal, progress)
            model_uri = register(space, journal, images, running.uri, running.tracker, progress)
            seconds = time.monotonic() - started
            outcome = outcome_of(space, directory, journal.history, running.uri, model_uri, seconds)
            journal.append("search_finished", why="every trial has ended", **_summary(outcome, journal.history))
            return outcome

        outcome = carried_through(running, progress, "search", story)
        if outcome is not None:
            progress.show(closing_lines(outcome, journal.history))
        return outcome


def search_and_retrain(
    space: SearchSpace, images: ImagesByKey, share: Share, journal: Journal, progress: Progress
) -> None:
    """All trials, then what validation has chosen of them, on the full training split."""
    if share.note:
        progress.say(share.note)
    progress.enter_phase(f"searching, {share.concurrency} trials at once")
    run_trials(Conductor(space, journal), images, share, journal.directory / "ray")
    best = best_trial(journal.history.trials.values())
    if best is not None and space.retrain.seeds:
        progress.enter_phase("retraining the best configuration")
        retrain_best(space, best, images, share, journal)


def register(
    space: SearchSpace, journal: Journal, images: ImagesByKey, uri: str, tracker: Tracker, progress: Progress
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


def retrain_best(space: SearchSpace, best: TrialRecord, images: ImagesByKey, share: Share, journal: Journal) -> None:
    """Retrains what validation has chosen, with every seed that has not been; the test split is loaded here."""
    config = space.trial_config(best.params)
    history = journal.history
    done = history.retrainings(best.number).keys() | history.failed_retrainings(best.number).keys()
    seeds = [seed for seed in range(space.retrain.seeds) if seed not in done]
    if seeds:
        train, test = images[source_key(config.data)], load_test(config.data)
        for retrained in retrain(config, seeds, train, test, share, journal.directory / "model"):
            kind = "retrain_finished" if isinstance(retrained, Retrained) else "retrain_failed"
            journal.append(kind, trial=best.number, **asdict(retrained))


def _summary(outcome: Outcome, history: History) -> dict[str, Any]:
    keys = ("val_top1", "test_top1_mean", "test_top1_sd", "model_uri", "seconds")
    best = best_trial(history.trials.values())
    scores = {key: value for key, value in asdict(outcome).items() if key in keys}
    return {"best_trial": None if best is None else best.number, **scores}


if __name__ == "__main__":
    raise SystemExit(main())
