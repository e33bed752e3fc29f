"""The compare command, and the story that it tells: search the rows that ask for it, train every row in every column
with every seed, say which is better and how sure that is.

python -m tuner.compare --space search_spaces/compare/digits.yaml
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from rich.console import Console

from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.loading import load_test, source_key, test_key
from tuner.cards import settled, with_room
from tuner.cells import CellFinished, CellKey, Measuring, train_cell
from tuner.cli import FAILED, FOUND, experiment_parser, guarded, overrides_of, parsed, with_space
from tuner.cluster import Share, as_they_end, shared
from tuner.comparison import Arm, Budget, Comparison, check_comparison, load_comparison
from tuner.conductor import Conductor
from tuner.dry_run import print_comparison
from tuner.experiment import Plan, corner_configs, load_training
from tuner.extends import problems_where_they_stand
from tuner.journal import History, Journal
from tuner.progress import Progress
from tuner.selection import best_trial
from tuner.session import Session, carried_through, session, tracked
from tuner.space import flatten
from tuner.tally import Tally
from tuner.trials import ImagesByKey, decoded_bytes, run_trials
from tuner.verdict import MARKDOWN, Verdict, closing_lines, verdict_of, write_tables
from tuner.warm_start import take_up


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0: every row has a score in every column; 2: bad input; 1: anything else."""
    arguments = parsed(parser(), argv)
    return guarded(lambda: run(with_space(arguments)))


def parser() -> argparse.ArgumentParser:
    """The command line; a contract, held by a test."""
    return experiment_parser("python -m tuner.compare", "Compare methods, with a paired test against a reference.")


def run(arguments: argparse.Namespace) -> int:
    """From the arguments to the exit code."""
    with problems_where_they_stand(arguments.space, dict(arguments.set)):
        comparison = load_comparison(arguments.space, overrides_of(arguments), arguments.smoke)
        plans = check_comparison(comparison)
    if arguments.dry_run:
        print_comparison(Console(highlight=False), comparison, plans, arguments.address)
        return FOUND
    verdict = compare(comparison, plans, arguments.address, bool(arguments.resume))
    if verdict is None:
        return FAILED
    if arguments.json:
        verdict.write(arguments.json)
    return FOUND if verdict.complete else FAILED


def compare(
    comparison: Comparison, plans: Sequence[Plan], address: str | None = None, resume: bool = False
) -> Verdict | None:
    """Runs a checked comparison, or goes on with its latest run; None where it was cut off, which has then been said.

    Raises:
        BadInput: before the first training, with everything that stands in the way.
    """
    started = time.monotonic()
    images = load_training(_variants(comparison), comparison.file)
    greeting, data_bytes = str(Budget.of(comparison, plans)), decoded_bytes(images)
    with session(comparison, greeting, address, resume, data_bytes) as opened:
        directory, journal = opened.directory, opened.journal
        tally = Tally(opened.screen, comparison.name, comparison.num_cells, opened.share.concurrency)
        journal.listeners.append(tally)

        def story() -> Verdict:
            journal.append("comparison_started", name=comparison.name, run=directory.name, **_described(comparison))
            spaces = [arm.space for arm in comparison.arms]
            share = settled(opened.share, spaces, images, comparison.search.folds, journal)
            running, tally.concurrency = replace(opened, share=share), share.concurrency
            if running.share.note:
                tally.say(running.share.note)
            search_rows(comparison, images, running, tally)
            train_cells(comparison, images, running, tally)
            seconds = time.monotonic() - started
            write_tables(comparison, directory, journal.history)
            journal.append("comparison_finished", why="every training has ended", seconds=seconds)
            return verdict_of(comparison, directory, journal.history, running.uri, seconds)

        verdict = carried_through(opened, tally, "compare", story)
        if verdict is not None:
            tally.show(closing_lines(verdict, (directory / MARKDOWN).read_text(encoding="utf-8")))
        return verdict


def search_rows(comparison: Comparison, images: ImagesByKey, running: Session, tally: Tally) -> None:
    """The searches of rows that have one, each a search of its own with its own journal, in `searches/`."""
    for number, arm in enumerate(comparison.arms):
        chosen = running.journal.history.chosen.get((arm.row, arm.column))
        if arm.is_searched and (chosen is None or chosen["trial"] is None):
            tally.enter_phase(f"searching {arm}")
            best = _search_arm(arm, number, images, running)
            running.journal.append("row_searched", row=arm.row, column=arm.column, **best)


def _search_arm(arm: Arm, number: int, images: ImagesByKey, running: Session) -> dict[str, Any]:
    """What validation chooses of the arm's trials; a search that was cut off goes on."""
    space, directory = arm.space, running.directory / "searches" / f"{number:02d}"
    share = running.share.grown_to(running.journal.history.gpus)
    with (
        closing(Journal(directory)) as journal,
        tracked(journal, running.uri, space.name),
        Progress(running.screen, space, space.search.trials, share.concurrency) as progress,
    ):
        journal.listeners.append(progress)
        run = f"{running.directory.name}-search-{number:02d}"
        journal.append("search_started", name=space.name, run=run, row=arm.row, column=arm.column, **space.described())
        try:
            for line in take_up(space, journal):
                progress.say(line)
            conductor = Conductor(space, journal)
            run_trials(conductor, images, share, directory / "ray")
        except BaseException:
            journal.append("search_finished", why="the comparison was cut off")
            raise
        best = best_trial(journal.history.trials.values())
        if (journal.history.gpus or 0.0) > share.gpus:
            running.journal.append("share_grown", gpus=journal.history.gpus, reason=f"as in {directory.name}")
        found = (None, {}, None) if best is None else (best.number, best.params, best.val_top1)
        journal.append("search_finished", why=conductor.ending, best_trial=found[0])
        return dict(zip(("trial", "params", "val_top1"), found, strict=True))


def train_cells(comparison: Comparison, images: ImagesByKey, running: Session, tally: Tally) -> None:
    """Every training that has no score yet; the test split is loaded here, after everything has been chosen."""

    def train_missing(share: Share) -> None:
        jobs = list(missing_cells(comparison, running.journal.history))
        if not jobs:
            return
        configs = {key: config for key, config, _ in jobs}
        tally.enter_phase(f"training, {share.concurrency} at once")
        for ended in as_they_end(train_cell, _with_images(comparison, jobs, images, share), share):
            kind = "cell_finished" if isinstance(ended, CellFinished) else "cell_failed"
            config = flatten(configs[ended.key].model_dump(mode="json"))
            running.journal.append(kind, config=config, **ended.as_fields())

    if any(missing_cells(comparison, running.journal.history)):
        with tally:
            with_room(running.share, running.journal, train_missing)


Job = tuple[CellKey, TrialConfig, Arm]


def missing_cells(comparison: Comparison, history: History) -> Iterator[Job]:
    """What is still to be trained, seed by seed, so that a comparison that is cut off has whole pairs. A training that
    diverged would do so again; one that failed otherwise is tried again."""
    for seed in range(comparison.compare.seeds):
        for arm in comparison.arms:
            key = CellKey(arm.row, arm.column, seed)
            failure = history.cell_failures.get(key)
            if key in history.cells or (failure is not None and failure["diverged"]):
                continue
            config = chosen_config(arm, history)
            if config is not None:
                yield key, config, arm


def chosen_config(arm: Arm, history: History) -> TrialConfig | None:
    """The arm's settings: fixed, or what its search has chosen; None where that found nothing."""
    if not arm.is_searched:
        return arm.space.trial_config({})
    chosen = history.chosen.get((arm.row, arm.column))
    return None if chosen is None or chosen["trial"] is None else arm.space.trial_config(chosen["params"])


def _with_images(
    comparison: Comparison, jobs: Sequence[Job], images: ImagesByKey, share: Share
) -> Iterator[tuple[Any, ...]]:
    """The jobs as `train_cell` takes them; each array is in the object store once."""
    arms = [arm for _, _, arm in jobs]
    tests = {test_key(arm.column_data): arm.column_data for arm in arms}
    test_refs = {key: shared(load_test(data)) for key, data in tests.items()}
    train_refs: dict[str, Any] = {}

    def train_ref(key: str) -> Any:
        if key not in train_refs:
            train_refs[key] = shared(images[key])
        return train_refs[key]

    for key, config, arm in jobs:
        measuring = Measuring(comparison.compare.measures, arm.column_data, config.training.eval_batch_size)
        trained_on, column = train_ref(source_key(config.data)), train_ref(source_key(arm.column_data))
        yield key, config, measuring, trained_on, column, test_refs[test_key(arm.column_data)], share


def _variants(comparison: Comparison) -> Iterator[DataConfig]:
    for arm in comparison.arms:
        yield next(corner_configs(arm.space)).data
        yield arm.column_data


def _described(comparison: Comparison) -> dict[str, Any]:
    tree = comparison.as_tree()
    return {"space": tree, "params": flatten(tree)}


if __name__ == "__main__":
    raise SystemExit(main())
