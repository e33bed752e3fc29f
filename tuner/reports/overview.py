"""First screen of the report: the test score, what it is compared with, and the commands that come next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from tuner.experiment.objective import LABELS, TOP1
from tuner.experiment.tree import by_short_name, flatten
from tuner.messages.invocation import command_line
from tuner.messages.wording import clock, counted
from tuner.record.baselines import BaselineRecord
from tuner.record.history import TrialRecord
from tuner.record.selection import mean_and_sd
from tuner.record.summary import why_it_died
from tuner.reports.evaluation import ModelEvaluation
from tuner.reports.search_run import SearchRun
from tuner.reports.trial_table import short, state_counts


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page: its title, its value, and a line of explanation."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class NextStep:
    """A command that a person may give next: what it is for, the line to copy, and what it needs."""

    purpose: str
    line: str
    note: str = ""


def subtitle(run: SearchRun) -> str:
    """Says in a line what was searched, on what, and when."""
    searched = f"{counted(len(run.dimensions), 'dimension')} of" if run.dimensions else "one configuration of"
    method = fixed_or_listed(run, "method", "name") or "a searched method"
    backbone = fixed_or_listed(run, "backbone", "name") or "searched backbones"
    dataset = fixed_or_listed(run, "data", "dataset")
    started = run.history.started
    when = "" if started is None else f"begun {_local_time(started.time_s)}"
    return " · ".join(filter(None, (f"{searched} {method}", f"{backbone} on {dataset}", when)))


def fixed_or_listed(run: SearchRun, section: str, key: str) -> str:
    """What a section fixes, or the labels of its alternatives; "" where it is a dimension."""
    fixed = run.space.fixed[section].get(key)
    if fixed is not None or section not in run.space.branches.alternatives:
        return str(fixed or "")
    return " or ".join(run.space.branches.alternatives[section].fixed)


def tiles_of(run: SearchRun, model: ModelEvaluation | None) -> Iterator[Tile]:
    """Yields the numbers at the top, the test score first."""
    yield from _test_tiles(run, model)
    result, history, best = run.result, run.history, run.best
    if best is not None:
        mean, sd = mean_and_sd(best.fold_values)
        top1 = "" if best.objective == TOP1 else f", top-1 {best.val_top1:.4f}"
        note = f"± {sd or 0.0:.4f} over {len(best.folds)} folds{top1}; chosen by it, so optimistic"
        yield Tile(f"Validation {best.objective.label}", f"{mean:.4f}", note)
    else:
        yield Tile(f"Validation {history.objective.label}", "–", "no trial has trained every fold")
    yield Tile("Trials", _of(len(history.trials), run.num_trials), state_counts(run) or "none has begun")
    yield Tile("Time", clock(result.seconds), f"on {device_of(run)}")


def _test_tiles(run: SearchRun, model: ModelEvaluation | None) -> Iterator[Tile]:
    """Yields the test score of the model with its interval over the images, then the mean over the retrainings."""
    result, test = run.result, None if model is None else model.test
    if test is not None:
        for name in dict.fromkeys(("top1", result.objective)):
            value = test.metrics[name]
            note = f"95 %: {value.low:.4f} to {value.high:.4f}, by {len(test.predictions)} test examples"
            yield Tile(f"Test {LABELS[name]} of the model", f"{value.value:.4f}", note)
    elif result.model_test_top1 is not None and result.test_top1_mean is None:
        yield Tile("Test top-1 of the model", f"{result.model_test_top1:.4f}", "")
    if result.test_top1_mean is not None:
        spread = "" if result.test_top1_sd is None else f"± {result.test_top1_sd:.4f} over "
        seeds = f"{spread}{counted(len(result.test_scores), 'seed')}"
        yield Tile(f"Test top-1 of {result.best_trial}", f"{result.test_top1_mean:.4f}", seeds)
    if result.ensemble is not None and test is None:
        note = f"mean {result.ensemble.mean_of} of {result.ensemble.num_networks} networks"
        yield Tile("Test top-1 of the model", f"{result.ensemble.test_top1:.4f}", note)


def _of(count: int, limit: int | None) -> str:
    return str(count) if limit is None else f"{count} of {limit}"


def ending(run: SearchRun) -> str:
    """Says why the search has ended, or that it runs."""
    if run.is_running:
        return "The search is running; this is how it stands. The page loads itself anew."
    if run.history.ended is None:
        return f"The search was cut off: {why_it_died(run.directory)}."
    return f"Why it ended: {run.history.ended.why or run.history.ended.outcome}."


def model_sentence(run: SearchRun) -> str:
    """Says which network the registered model is; "" without a model."""
    result, winner = run.result, run.winner
    if result.model_uri is None or winner is None:
        return ""
    name = f"the {winner.label}" if isinstance(winner, BaselineRecord) else winner.trial_id
    if (ensemble := result.ensemble) is not None:
        which = f"the mean {ensemble.mean_of} of {counted(ensemble.num_networks, 'network')} of {name}"
        gain = (
            ""
            if ensemble.gain is None
            else f", {100 * ensemble.gain.mean:+.1f} points over one of them".replace("-", "−")
        )
        return f"The model is {which}{gain}."
    return f"The model is {name}, trained on the whole training split with seed {result.model_seed}."


def best_params(best: TrialRecord | None, run: SearchRun) -> list[tuple[str, str]]:
    """Lists the dimensions of the best trial by the names that are displayed, with their values."""
    params = {} if best is None else best.params
    return [(name, short(value)) for name, value in by_short_name(params, run.names).items()]


def next_steps(run: SearchRun) -> Iterator[NextStep]:
    """Yields the commands that a person may give next, with the model first."""
    directory, result = run.directory, run.result
    store = ("--tracking-uri", result.tracking_uri)
    if run.is_running:
        yield NextStep("Follow it in a browser", command_line("report", directory, "--serve"))
    if result.model_uri:
        model = ("--model", result.model_uri, *store)
        has_texts = next(run.space.boundary_configs()).data.has_texts
        example, note = ("a text", "") if has_texts else ("photo.jpg", "or a folder of photographs")
        yield NextStep("Ask its model", command_line("predict", *model, example), note)
        yield NextStep("Try it in a browser", command_line("try", *model), "needs the extra: smile-tuner[try]")
    if not run.is_running:
        yield _more(run)
    if result.tracking_uri.startswith(("http://", "https://")):
        yield NextStep("Look at it in MLflow", result.tracking_uri, f"experiment {run.space.name}")
    elif result.tracking_uri:
        yield NextStep("Look at it in MLflow", command_line("ui", *store), "prints the link to its trials")
    yield NextStep("Write this page anew", command_line("report", directory))


def _more(run: SearchRun) -> NextStep:
    trials = ("--trials", 2 * run.num_trials) if run.dimensions and run.num_trials is not None else ()
    line = command_line("search", "--resume", run.directory, *trials)
    if trials:
        return NextStep("Go on with it, with more trials", line)
    minutes = run.space.search.minutes
    return NextStep("Go on with it" if minutes is None else f"Go on with it, for {minutes:g} more minutes", line)


def device_of(run: SearchRun) -> str:
    """What the trainings ran on: a device of each kind, or else the number of CPU cores."""
    if run.history.hardware is not None:
        return "; ".join(run.history.hardware.devices)
    cores = run.environment.cpus
    return "CPU" if cores is None else f"{counted(cores, 'CPU core')}"


def facts_of(run: SearchRun) -> Iterator[tuple[str, str]]:
    """Yields titles and values of where and how the search ran."""
    known = run.environment
    yield "experiment directory", str(run.directory)
    for name, value in (
        ("MLflow", known.tracking_uri),
        ("command", known.command),
        ("machine", known.platform),
        ("device", device_of(run)),
    ):
        if value:
            yield name, value
    yield from _training_facts(run)
    packages = ({"Python": known.python} if known.python else {}) | known.packages
    if packages:
        yield "versions", ", ".join(f"{name} {version}" for name, version in packages.items())
    if run.history.data_findings is not None and run.history.data_findings.grouping:
        yield "groups", run.history.data_findings.grouping
    for key, words in run.space.dimension_words.items():
        yield f"searched: {run.names[key]}", words
    search = flatten(run.space.search.model_dump(mode="json", exclude={"first_points"}, exclude_none=True))
    yield "search", ", ".join(f"{key} {short(value)}" for key, value in search.items() if value != [])
    if (length := run.history.training_length) < 1:
        yield "length of trainings", f"{length:.0%} of the steps in the file, so that a trial fits into search.minutes"


def _training_facts(run: SearchRun) -> Iterator[tuple[str, str]]:
    """Yields what the folds of the best trial say of their trainings, where the record has it."""
    found = [fold.facts for fold in run.best.folds if fold.facts is not None] if run.best is not None else []
    if not found:
        return
    yield "precision", ", ".join(dict.fromkeys(facts.precision for facts in found))
    if speeds := [facts.examples_per_s for facts in found if facts.examples_per_s]:
        yield "speed", f"{fmean(speeds):.3g} examples a second in a training of the best trial"
    if skipped := sum(facts.skipped_steps for facts in found):
        yield "skipped steps", f"{skipped} of the best trial, whose gradients overflowed in fp16"
    if found[-1].num_norms:
        yield "teacher", f"{found[-1].folded_norms} of {found[-1].num_norms} BatchNorms folded"


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds))
