"""Optuna's analyses of a search: importance of each dimension, contours of pairs, and parallel coordinates of all.

Besides `scheduling/sampler.py` the only file that knows Optuna, because its analyses take a study. It is imported when
an analysis is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import combinations
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from tuner.experiment.alternatives import Branches
from tuner.experiment.dimensions import Choice, Dimension
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.tree import by_short_name
from tuner.record.history import TrialRecord
from tuner.record.selection import ranked
from tuner.reports.plot_layout import BLUE, GREEN, GREY, SMALL_MARGIN, with_report_layout
from tuner.reports.plots import hover_text

if TYPE_CHECKING:
    import optuna

MIN_TRIALS = 10
"""Complete trials without which importance would be guesswork."""
MIN_TRIALS_PED_ANOVA = 100
"""PED-ANOVA compares the best tenth with all: from here on that tenth has ten trials, and fANOVA takes too long."""
FANOVA_TREES = 16
NUM_PAIRED = 3
"""Most important dimensions of which each pair has a contour and a plot of ranks."""
MAX_IN_CONTOUR = 60
"""Best trials that a contour is drawn through: its grid has a row and a column for each."""


@dataclass(frozen=True)
class Importance:
    """Share of the score's variation that each dimension explains, by displayed name; the shares add up to 1.

    `note` says how they were found, or why there are none; `condition` which trials they are of, "" for all.
    """

    note: str
    shares: Mapping[str, float] = field(default_factory=dict)
    condition: str = ""


@dataclass(frozen=True)
class Group:
    """Trials that have the same dimensions: all trials with the dimensions that each has, or those of an alternative.

    `condition` says which trials, "" for all; `names` are the names that are displayed in it, by dotted path.
    """

    condition: str
    dimensions: Mapping[str, Dimension]
    trials: Sequence[TrialRecord]
    names: Mapping[str, str]


def groups_of(space: SearchExperiment, trials: Iterable[TrialRecord], names: Mapping[str, str]) -> list[Group]:
    """Groups the trials of a search: all of them first, then those of each alternative with dimensions of its own.

    A dimension that exists in some trials only has no share of the variation between all of them.
    """
    branches, trials = space.branches, list(trials)
    groups = [Group("", common_dimensions(space), trials, names)]
    for condition in dict.fromkeys(branches.conditions.values()):
        chosen = {**branches.required(condition[0]), condition[0]: condition[1]}
        exist = [key for key in space.dimensions if branches.required(key).items() <= chosen.items()]
        dimensions = {key: space.dimensions[key] for key in exist if key not in chosen}
        of_trials = [trial for trial in trials if chosen.items() <= trial.params.items()]
        own = {**names, **{key: leaf_name(key, branches, names) for key in dimensions}}
        words = ", ".join(f"{key} = {label}" for key, label in chosen.items())
        groups.append(Group(words, dimensions, of_trials, own))
    return groups


def importances_of(
    space: SearchExperiment, trials: Iterable[TrialRecord], names: Mapping[str, str]
) -> list[Importance]:
    """Estimates the importance of the dimensions in each group of trials, by its trials alone."""
    return [
        replace(importance_of(group.dimensions, group.trials, group.names), condition=group.condition)
        for group in groups_of(space, trials, names)
    ]


def common_dimensions(space: SearchExperiment) -> dict[str, Dimension]:
    """The dimensions that every trial has."""
    return {key: dimension for key, dimension in space.dimensions.items() if key not in space.branches.conditions}


def leaf_name(key: str, branches: Branches, names: Mapping[str, str]) -> str:
    """The name of a dimension among those of the same alternative, whose settings are its leaves."""
    return branches.path_of(key).rpartition(".")[2] if key in branches.paths else names[key]


def importance_of(
    dimensions: Mapping[str, Dimension], trials: Iterable[TrialRecord], names: Mapping[str, str]
) -> Importance:
    """Estimates by complete trials alone, of those that have all `dimensions`, on which of them the score depends.

    With fewer than `MIN_TRIALS_PED_ANOVA` trials by fANOVA (Hutter et al., 2014), else by PED-ANOVA (Watanabe et al.,
    2023). `dimensions` are by dotted path, `names` the names that are displayed, by path.
    """
    complete = _complete(dimensions, trials)
    if not dimensions:
        return Importance("Nothing was searched.")
    if len(complete) < MIN_TRIALS:
        return Importance(
            f"Importance needs {MIN_TRIALS} complete trials, and there are {len(complete)}: "
            "with fewer, chance decides which dimension looks important."
        )
    if len({trial.score for trial in complete}) == 1:
        return Importance("Every complete trial has the same score, so no dimension explains a difference.")
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    if len(complete) >= MIN_TRIALS_PED_ANOVA:
        note = (
            f"How much each dimension decides whether a trial is among the best tenth of the {len(complete)} complete "
            "ones (PED-ANOVA)."
        )
        evaluator: optuna.importance.BaseImportanceEvaluator = PedAnovaImportanceEvaluator()
    else:
        note = (
            f"The share of the score's variance over the searched ranges that each dimension explains by itself, by a "
            f"random forest on the {len(complete)} complete trials (fANOVA). With so few, take it as a hint."
        )
        evaluator = FanovaImportanceEvaluator(n_trees=FANOVA_TREES, seed=0)
    shares = get_param_importances(_study_of(dimensions, complete, names), evaluator=evaluator)
    return Importance(note, {name: float(share) for name, share in shares.items()})


def parallel_plot(
    dimensions: Mapping[str, Dimension], trials: Iterable[TrialRecord], names: Mapping[str, str]
) -> go.Figure | None:
    """Plots parallel coordinates, a line for each complete trial; None where there are fewer than two.

    The better a trial, the bluer its line; the best is green and on top. Arguments as for `importance_of`.
    """
    complete = _complete(dimensions, trials)
    if len(complete) < 2 or not dimensions:
        return None
    from optuna.visualization import plot_parallel_coordinate

    study = _study_of(dimensions, complete, names)
    label = complete[0].objective.label
    figure = plot_parallel_coordinate(study, params=[names[path] for path in dimensions], target_name=label)
    lines = list(figure.data[: len(complete)])
    worst_first = sorted(range(len(complete)), key=lambda i: (complete[i].score or 0.0, -complete[i].number))
    colors = _rank_colors([rank / len(complete) for rank in range(len(complete))])
    for rank, i in enumerate(worst_first):
        share = rank / len(complete)
        lines[i].update(line={"color": colors[rank], "width": 1 + share}, opacity=0.15 + 0.6 * share**2)
    lines[worst_first[-1]].update(line={"color": GREEN, "width": 3}, opacity=1)
    figure.data = [lines[i] for i in worst_first]
    figure.update_annotations(font={"color": None, "size": 11})
    return with_report_layout(figure, xaxis={"side": "top"}, margin={"l": 24, "r": 40, "t": 40, "b": 12})


def pair_plots(group: Group, importance: Importance) -> list[tuple[go.Figure | None, go.Figure]]:
    """Plots for each pair of the most important dimensions a contour of the score, and the trials by their ranks.

    A pair with a choice has no contour (None): there is nothing between two alternatives. Empty without importance,
    which the same group of trials has, and where only one dimension took several values.
    """
    complete = _complete(group.dimensions, group.trials)
    found: list[tuple[go.Figure | None, go.Figure]] = []
    for x, y in combinations(_most_important(group, complete, importance), 2):
        dimensions = {path: group.dimensions[path] for path in (x, y)}
        best = sorted(ranked(complete)[:MAX_IN_CONTOUR], key=lambda trial: trial.number)
        has_choice = any(isinstance(dimension, Choice) for dimension in dimensions.values())
        contour = None if has_choice else _contour_plot(dimensions, best, group.names)
        found.append((contour, _rank_plot(dimensions, complete, group.names)))
    return found


def _most_important(group: Group, complete: Sequence[TrialRecord], importance: Importance) -> list[str]:
    """The paths of the most important dimensions of which a contour can be drawn."""
    varied = [path for path in group.dimensions if len({str(trial.params[path]) for trial in complete}) > 1]
    shown = [path for path in varied if group.names[path] in importance.shares]
    return sorted(shown, key=lambda path: -importance.shares[group.names[path]])[:NUM_PAIRED]


def _contour_plot(
    dimensions: Mapping[str, Dimension], complete: Sequence[TrialRecord], names: Mapping[str, str]
) -> go.Figure:
    from optuna.visualization import plot_contour

    objective, shown = complete[0].objective, [names[path] for path in dimensions]
    figure = plot_contour(_study_of(dimensions, complete, names), params=shown, target_name=objective.label)
    bar = {"thickness": 10, "outlinewidth": 0, "title": {"text": ""}, "tickfont": {"size": 11}}
    colours = {"colorscale": "Cividis", "reversescale": objective.lower_is_better, "colorbar": bar}
    figure.update_traces(selector={"type": "contour"}, line={"width": 0}, **colours)
    dots = {"size": 6, "color": "white", "line": {"width": 1, "color": "black"}}
    figure.update_traces(selector={"type": "scatter"}, marker=dots, hoverinfo="skip")
    return _pair_layout(figure)


def _rank_plot(
    dimensions: Mapping[str, Dimension], complete: Sequence[TrialRecord], names: Mapping[str, str]
) -> go.Figure:
    from optuna.visualization import plot_rank

    shown = sorted(names[path] for path in dimensions)  # as Optuna has them in a contour
    figure = plot_rank(_study_of(dimensions, complete, names), params=shown)
    figure.data = figure.data[:1]  # without the bar of Optuna's colours
    for axis, name in zip((figure.layout.xaxis, figure.layout.yaxis), shown, strict=True):
        dimension = next(dimensions[path] for path in dimensions if names[path] == name)
        if isinstance(dimension, Choice):
            axis.update(categoryorder="array", categoryarray=list(map(str, dimension.choice)))
    places = {trial.number: place for place, trial in enumerate(reversed(ranked(complete)), start=1)}
    shares = [places[trial.number] / len(complete) for trial in complete]
    colors = [GREEN if share == 1 else color for share, color in zip(shares, _rank_colors(shares), strict=True)]
    texts = [hover_text(trial, names) for trial in complete]
    sizes = [11 if share == 1 else 8 for share in shares]
    figure.update_traces(marker={"color": colors, "size": sizes, "line": {"width": 0}}, hovertext=texts)
    return _pair_layout(figure)


def _rank_colors(shares: Sequence[float]) -> list[str]:
    """Colours of trials by the share of trials that are no better."""
    colors: list[str] = sample_colorscale([[0.0, GREY], [1.0, BLUE]], shares)
    return colors


def _pair_layout(figure: go.Figure) -> go.Figure:
    titles = (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text)
    figure.update_layout(xaxis_title=escape(titles[0]), yaxis_title=escape(titles[1]))
    return with_report_layout(figure, margin=SMALL_MARGIN, showlegend=False)


def _complete(dimensions: Mapping[str, Dimension], trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    return [trial for trial in trials if trial.state == "complete" and trial.params.keys() >= dimensions.keys()]


def _study_of(
    dimensions: Mapping[str, Dimension], complete: Sequence[TrialRecord], names: Mapping[str, str]
) -> optuna.Study:
    """Builds a study of complete trials and the values of their objective, its parameters by the names that are
    displayed."""
    import optuna

    from tuner.scheduling.sampler import distribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    is_loss = any(trial.objective.lower_is_better for trial in complete)
    study = optuna.create_study(direction="minimize" if is_loss else "maximize")
    distributions = {names[path]: distribution(dimension) for path, dimension in dimensions.items()}
    study.add_trials(
        optuna.trial.create_trial(
            params=by_short_name({key: trial.params[key] for key in dimensions}, names),
            distributions=distributions,
            value=trial.value,
        )
        for trial in complete
    )
    return study
