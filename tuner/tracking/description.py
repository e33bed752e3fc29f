"""Description of a search in the MLflow UI, as Markdown: scores beside the baselines, configuration, what is next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainables.metrics import wilson_interval
from tuner.experiment.objective import TOP1
from tuner.messages.invocation import command_line
from tuner.messages.wording import counted, spell_params
from tuner.record.baselines import BaselineRecord
from tuner.record.differences import spell_difference
from tuner.record.directory import RunDirectory
from tuner.record.events import ModelRegistered, SearchStarted
from tuner.record.examples import ExampleNames
from tuner.record.history import SearchHistory, TrialRecord
from tuner.record.selection import best_trial, mean_and_sd, winner_of
from tuner.record.standings import retraining_scores, standings_of
from tuner.tracking.params import by_short_name
from tuner.tracking.ui_views import VIEWS, page_of

TAG = "mlflow.note.content"
"""Tag that the UI shows as a run's description."""


def describe(history: SearchHistory, started: SearchStarted, directory: RunDirectory, experiment_id: str) -> str:
    """Describes a search as far as it is."""
    parts = [
        [_test_line(history, directory)],
        _score_lines(history, started),
        _configuration(history, started),
        [_links(experiment_id)],
        _files(history, directory),
        [f"    {command_line('search', '--resume', directory)}"],
    ]
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if any(lines)) + "\n"


def model_test_interval(model: ModelRegistered, directory: RunDirectory) -> tuple[float, float] | None:
    """95 % interval of the registered model's test top-1, which counts the test examples; None where these or the score
    are not recorded."""
    names = ExampleNames.read(directory)
    if model.test_top1 is None or names is None or not names.test:
        return None
    return wilson_interval(model.test_top1, len(names.test))


def registered_model(history: SearchHistory) -> ModelRegistered | None:
    """Registration of the winner's model, if there is one."""
    winner = winner_of(history.trials.values(), history.baselines.values())
    return None if winner is None else history.registered(winner.key)


def _test_line(history: SearchHistory, directory: RunDirectory) -> str:
    """The model and what it scores on the test split."""
    model = registered_model(history)
    if model is None or model.test_top1 is None:
        return ""
    network = "the ensemble" if model.seed is None else f"the network of seed {model.seed}"
    of = model.baseline or (None if model.trial is None else history.trials[model.trial].trial_id)
    interval, names = model_test_interval(model, directory), ExampleNames.read(directory)
    within = ""
    if interval is not None and names is not None:
        within = f" ({interval[0]:.4f} to {interval[1]:.4f}, 95 % for {counted(len(names.test), 'test example')})"
    return f"**Test top-1 {model.test_top1:.4f}**{within}: `{model.uri}`, {network} of {of}"


def _score_lines(history: SearchHistory, started: SearchStarted) -> Iterator[str]:
    """The best trial and each baseline in a line: scores, and how much better the best trial is on the test split.

    No table: the UI draws the cells of one without a space between them.
    """
    best = best_trial(history.trials.values())
    if best is not None:
        yield f"- **{best.trial_id}**, the best of {len(history.trials)}: {_scores(history, best)}"
    for standing in standings_of(history, int(started.space.get("search", {}).get("folds", 2))):
        better = "" if standing.test is None else f": the best trial is {spell_difference(standing.test, 'seed')}"
        yield f"- {standing.baseline.label}: {_scores(history, standing.baseline)}{better}"
    winner = winner_of(history.trials.values(), history.baselines.values())
    if isinstance(winner, BaselineRecord):
        yield f"- the {winner.label} has the best validation score, so that its model is the result"


def _scores(history: SearchHistory, record: TrialRecord | BaselineRecord) -> str:
    """Scores of a record on validation and, if it was retrained, on the test split."""
    if record.value is None:
        return record.reason or "no score"
    top1 = "" if record.objective == TOP1 or record.val_top1 is None else f" (top-1 {record.val_top1:.4f})"
    validation = f"validation {history.objective.label} {record.value:.4f}{top1}"
    scores = retraining_scores(history, record)
    if not scores:
        return validation
    mean, sd = mean_and_sd(scores.values())
    spread = "" if sd is None else f" ± {sd:.4f}"
    return f"{validation}, test top-1 {mean:.4f}{spread} ({counted(len(scores), 'seed')})"


def _configuration(history: SearchHistory, started: SearchStarted) -> Sequence[str]:
    best = best_trial(history.trials.values())
    params = {} if best is None else by_short_name(started, best.params)
    return [] if best is None or not params else [f"Configuration of {best.trial_id}: `{spell_params(params)}`"]


def _links(experiment_id: str) -> str:
    views = [f"[{view}]({page_of(experiment_id, view)})" for view in VIEWS]
    charts = f"[charts]({page_of(experiment_id, as_charts=True)})"
    return f"Views of the latest search: {', '.join([*views, charts])}."


def _files(history: SearchHistory, directory: RunDirectory) -> Iterator[str]:
    yield f"Report: `{directory.report}`, and `{directory.report.name}` among the artifacts."
    if best_trial(history.trials.values()) is not None:
        yield f"`{directory.best_space.name}` runs the best configuration alone."
    yield "More trials, or the rest of an interrupted search:"
