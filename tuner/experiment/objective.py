"""Objective of a search: the validation metric by which trials are raced, sampled and selected, and its direction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, Protocol

from trainables.results import FoldResult

ObjectiveName = Literal["top1", "balanced_accuracy", "macro_f1", "log_loss"]

LOSSES: frozenset[ObjectiveName] = frozenset({"log_loss"})
"""Those of which less is better: of `trainables.metrics.LOWER_IS_BETTER`, which a list of searches does not import."""

LABELS: dict[str, str] = {
    "top1": "top-1",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
}
"""Names of the metrics in messages, tables and figures."""


class Scored(Protocol):
    """Result on a validation part: its top-1, and the metrics by name where they are recorded."""

    @property
    def val_top1(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Value of each metric of `trainables.metrics`; empty in records of older versions."""
        ...


@dataclass(frozen=True)
class Objective:
    """Metric that a search optimises.

    Its *value* is the metric itself, which is displayed; its *score* is the value, negated if lower is better, so that
    the larger of two scores is always the better one. Racing, sampler and selection compare scores.

    >>> objective = Objective("log_loss")
    >>> objective.score_of(0.5), objective.value_of(-0.5), objective.spell(-0.5)
    (-0.5, 0.5, 'log loss 0.5000')
    """

    name: ObjectiveName = "top1"

    @property
    def label(self) -> str:
        """Name of the metric in messages: `log loss`."""
        return LABELS[self.name]

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.name in LOSSES

    @property
    def is_share(self) -> bool:
        """Whether the metric is in [0, 1], so that differences are said in points of a hundred."""
        return not self.lower_is_better

    @property
    def metric_key(self) -> str:
        """Name in MLflow and in tables of data: `val_log_loss`."""
        return f"val_{self.name}"

    def is_known(self, result: Scored) -> bool:
        """Whether the record of `result` has the metric: those of older versions have top-1 alone."""
        return self.name == "top1" or self.name in result.metrics

    def value(self, result: Scored) -> float:
        """Returns the value of the metric. Raises KeyError if it is not known."""
        return result.val_top1 if self.name == "top1" else result.metrics[self.name]

    def values(self, results: Iterable[Scored]) -> list[float]:
        """Returns the value of each result. Raises KeyError as `value`."""
        return [self.value(result) for result in results]

    def score(self, result: Scored) -> float:
        """Returns the score of a result: the larger, the better. Raises KeyError as `value`."""
        return self.score_of(self.value(result))

    def score_of_metrics(self, metrics: Mapping[str, float]) -> float:
        """Returns the score of metrics by name."""
        return self.score_of(metrics[self.name])

    def scores(self, results: Iterable[Scored]) -> list[float]:
        """Returns the score of each result. Raises KeyError as `value`."""
        return [self.score(result) for result in results]

    def score_of(self, value: float) -> float:
        """Converts a value to a score."""
        return -value if self.lower_is_better else value

    def value_of(self, score: float) -> float:
        """Converts a score, or a mean of scores, to a value."""
        return -score if self.lower_is_better else score

    def spell(self, score: float) -> str:
        """Formats a score as the value with its name: `top-1 0.9311`."""
        return f"{self.label} {self.value_of(score):.4f}"


TOP1 = Objective()
"""The objective of a search that names none."""


def objective_of(space: Mapping[str, Any]) -> Objective:
    """Returns the objective of an experiment as plain data; top-1 where it has none, as in records of older versions.

    >>> objective_of({"search": {"objective": "macro_f1"}}).label, objective_of({}).label
    ('macro F1', 'top-1')
    """
    search: Mapping[str, Any] = space.get("search", {})
    return Objective(search.get("objective", "top1"))


class Keeping(Protocol):
    """The part of `SearchSettings` that says which weights a fold is scored with."""

    @property
    def objective(self) -> ObjectiveName:
        """Metric that is optimised."""
        ...

    @property
    def keep(self) -> Literal["last", "best"]:
        """Whether the last weights are scored or the best."""
        ...


def score_of_best(search: Keeping) -> Callable[[Mapping[str, float]], float] | None:
    """Returns the score by which the best weights of a fold are chosen; None if the last ones are scored."""
    return Objective(search.objective).score_of_metrics if search.keep == "best" else None


def mean_kept_share(folds: Iterable[FoldResult]) -> float:
    """Mean share of their steps after which folds were scored; 1 of none."""
    shares = [fold.kept_share for fold in folds]
    return fmean(shares) if shares else 1.0


def mean_metrics(results: Iterable[Scored]) -> dict[str, float]:
    """Means over results of each metric that all of them have, top-1 always among them; {} of no results."""
    results = list(results)
    if not results:
        return {}
    common = [name for name in results[0].metrics if all(name in result.metrics for result in results)]
    means = {name: fmean(result.metrics[name] for result in results) for name in common}
    return {"top1": fmean(result.val_top1 for result in results)} | means
