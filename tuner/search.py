"""The search command, and the story that it tells: load the experiment, run its trials, retrain the best, say what
was found.

python -m tuner.search --space search_spaces/smile.yaml
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from trainables.data.loading import load_test, source_key
from trainables.errors import BadInput
from tuner.cli import FAILED, FOUND, guarded, key_value
from tuner.cluster import Share, chatter_to, cluster, share_of
from tuner.conductor import Conductor
from tuner.dimensions import spell
from tuner.directory import latest_run, locked, new_run, write_record
from tuner.dry_run import print_plan
from tuner.experiment import Plan, check_experiment, load_images, problems_of_sections, smoke_overrides
from tuner.journal import History, Journal, TrialRecord
from tuner.outcome import Outcome, closing_lines, outcome_of
from tuner.progress import Progress
from tuner.redaction import without_credentials
from tuner.retrain import MODEL_SEED, Retrained, retrain
from tuner.selection import best_trial
from tuner.space import SearchSpace, flatten, load_space, parse_space, read_tree
from tuner.tracking import Projection, Tracker, TrackingFailed, prepare_store, register_model, tracking_uri
from tuner.trials import ImagesByKey, one_line, run_trials

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT_S = 60.0
"""How long the end of a search waits for MLflow to have taken everything in."""
CLOSE_TIMEOUT_S = 10.0
"""The same where the search was cut off."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0: a best configuration was found; 2: bad input; 1: anything else."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """The command line; a contract, held by a test."""
    parser = argparse.ArgumentParser(prog="python -m tuner.search", description="Search, retrain, register a model.")
    add = parser.add_argument
    add("--space", type=Path, required=True, metavar="FILE", help="the experiment, as YAML")
    add(
        "--set", type=key_value, action="append", default=[], metavar="KEY=VALUE", help="a leaf, e.g. data.root=/photos"
    )
    add("--trials", type=int, metavar="N", help="override search.trials")
    add("--address", metavar="ADDRESS", help="a running Ray cluster (default: one of this machine, for this search)")
    add("--tracking-uri", metavar="URI", help="override tracking.uri")
    add("--name", metavar="NAME", help="override the experiment's name")
    add("--resume", action="store_true", help="go on with the latest run of this name")
    add("--dry-run", action="store_true", help="check everything, print the resolved experiment, start nothing")
    add("--smoke", action="store_true", help="the same path, tiny: under a minute")
    add("--json", type=Path, metavar="FILE", help="write the outcome there, for other programs")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """From the arguments to the exit code."""
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
    overrides = dict(arguments.set)
    given = {"search.trials": arguments.trials, "tracking.uri": arguments.tracking_uri, "name": arguments.name}
    overrides |= {key: value for key, value in given.items() if value is not None}
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
    with ExitStack() as stack:
        directory = stack.enter_context(experiment_directory(space, resume))
        screen = Console(file=stack.enter_context(chatter_to(directory / "logs" / "driver.log")), highlight=False)
        screen.print(f"{space.name}: {plan}", soft_wrap=True)
        uri = tracking_uri(space.tracking.uri)
        prepare_store(uri, space.name)
        share = share_of(stack.enter_context(cluster(address)), space.resources, space.search.concurrency)
        journal = stack.enter_context(closing(Journal(directory)))
        tracker = Tracker(Projection(uri, space.name, directory))
        stack.callback(tracker.close, CLOSE_TIMEOUT_S)
        progress = stack.enter_context(Progress(screen, space, plan.num_trials, share.concurrency))
        journal.listeners += [progress, lambda event, history: tracker.notify()]
        try:
            journal.append("search_started", name=space.name, run=directory.name, **_described(space))
            search_and_retrain(space, images, share, journal, progress)
            model_uri = register(space, journal, images, uri, tracker, progress)
            outcome = outcome_of(space, directory, journal.history, uri, model_uri, time.monotonic() - started)
            journal.append("search_finished", why="every trial has ended", **_summary(outcome, journal.history))
        except KeyboardInterrupt:
            progress.say(f"interrupted: every finished fold is kept in {directory}")
            journal.append("search_finished", why="interrupted")
        except Exception as error:  # a bug, or a cluster that broke down: say so, keep what there is
            logger.exception("the search broke off")
            progress.say(f"error: {one_line(error)}; the full story is in {directory / 'logs'}")
            with contextlib.suppress(OSError):  # it may be the disk that broke it off
                journal.append("search_finished", why=one_line(error))
        else:
            if not tracker.flush(FLUSH_TIMEOUT_S):
                progress.say("MLflow is behind: it will be brought into line by the next run with --resume")
            progress.show(closing_lines(outcome, journal.history))
            return outcome
        progress.say(f"go on with: {resuming_command(directory, address, uri)}")
    return None


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
    if best is None or MODEL_SEED not in journal.history.retrainings(best.number):
        return None
    if (registered := journal.history.model_uri(best.number)) is not None:
        return registered  # by the run that this one goes on from
    progress.enter_phase("registering the model")
    model, example = journal.directory / "model", next(iter(images.values())).pixels[:2]
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


@contextlib.contextmanager
def experiment_directory(space: SearchSpace, resume: bool) -> Iterator[Path]:
    """The run's directory, held by this process. One that is refused before its first event leaves nothing behind."""
    directory = latest_run(space) if resume else new_run(space)
    with locked(directory):
        if resume:
            write_record(space, directory)
        try:
            yield directory
        except BaseException:
            if not (directory / "journal.jsonl").exists():
                shutil.rmtree(directory)
            raise


def resuming_command(directory: Path, address: str | None, uri: str) -> str:
    """What goes on from `directory`: its record says all that the first command said, but no password."""
    where = f" --address {shlex.quote(address)}" if address else ""
    record = shlex.quote(str(directory / "space.yaml"))
    store = " --tracking-uri <with its credentials>" if without_credentials(uri) != uri else ""
    return f"python -m tuner.search --space {record}{where}{store} --resume"


def _described(space: SearchSpace) -> dict[str, Any]:
    dimensions = {space.short_names[path]: spell(dimension) for path, dimension in space.dimensions.items()}
    return {"space": space.as_tree(), "params": flatten(space.fixed), "dimensions": dimensions}


def _summary(outcome: Outcome, history: History) -> dict[str, Any]:
    keys = ("val_top1", "test_top1_mean", "test_top1_sd", "model_uri", "seconds")
    best = best_trial(history.trials.values())
    scores = {key: value for key, value in asdict(outcome).items() if key in keys}
    return {"best_trial": None if best is None else best.number, **scores}


if __name__ == "__main__":
    raise SystemExit(main())
