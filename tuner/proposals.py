"""Optuna: which configuration to try next. The one file that knows it.

The study lives in memory and is rebuilt from the journal, which alone is durable: two owners of the truth disagree
after a crash. Every proposal comes from a sampler seeded for that trial's number, so that it depends on the trials
known and on nothing else, and a resumed search goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from trainables.seeding import seed_for
from tuner.dimensions import Choice, Dimension, Integer, LogUniform, Uniform
from tuner.journal import TrialRecord
from tuner.settings import Sampler
from tuner.space import SearchSpace

STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Proposal:
    """A configuration to try. `params` by short names; `attrs` is what the sampler wants back when the study is
    rebuilt."""

    number: int
    params: dict[str, Any]
    source: Literal["first_point", "sampler"]
    attrs: dict[str, Any]


class Proposer:
    """Proposes trials, is told how they went."""

    def __init__(self, space: SearchSpace, known: Mapping[int, TrialRecord]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._distributions = {space.short_names[path]: distribution(d) for path, d in space.dimensions.items()}
        self._first_points = [_by_short_name(point, space.short_names) for point in space.search.first_points]
        self._study = optuna.create_study(direction="maximize", study_name=space.name)
        self._running: dict[int, optuna.Trial] = {}
        for number in sorted(known):
            self._study.add_trial(self._frozen(known[number]))
            if known[number].state == "running":
                self._running[number] = optuna.Trial(
                    self._study, self._study.get_trials(deepcopy=False)[number]._trial_id
                )

    def propose(self) -> Proposal:
        """The next trial; first points come first, completed by the sampler where they are partial."""
        number = len(self._study.get_trials(deepcopy=False))
        settings = self._space.search
        self._study.sampler = build_sampler(
            settings.sampler, settings.trials, seed_for(settings.seed, "proposal", number)
        )
        is_first_point = number < len(self._first_points)
        if is_first_point:
            self._study.enqueue_trial(self._first_points[number])
        trial = self._running[number] = self._study.ask(self._distributions)
        attrs = self._study.get_trials(deepcopy=False)[number].system_attrs
        return Proposal(number, trial.params, "first_point" if is_first_point else "sampler", dict(attrs))

    def tell(self, record: TrialRecord) -> None:
        """Takes in how a trial ended. One that was stopped is told as pruned with its fold means, never as complete."""
        trial = self._running.pop(record.number, None)
        if trial is None:
            return  # told before, e.g. read back from the journal
        if record.state == "complete":
            self._study.tell(trial, record.val_top1)
            return
        for num_folds, mean in intermediate_values(record).items():
            trial.report(mean, step=num_folds)
        self._study.tell(trial, state=STATES[record.state])

    def _frozen(self, record: TrialRecord) -> optuna.trial.FrozenTrial:
        return optuna.trial.create_trial(
            state=STATES[record.state],
            params=record.params,
            distributions=self._distributions,
            value=record.val_top1,
            intermediate_values={} if record.state == "complete" else intermediate_values(record),
            system_attrs=record.attrs,
        )


def intermediate_values(record: TrialRecord) -> dict[int, float]:
    """Folds finished → mean validation top-1 over them."""
    scores = record.fold_scores
    return {count: sum(scores[:count]) / count for count in range(1, len(scores) + 1)}


def distribution(dimension: Dimension) -> BaseDistribution:
    """The dimension in Optuna's terms."""
    match dimension:
        case Uniform(uniform=(low, high)):
            return FloatDistribution(low, high)
        case LogUniform(log_uniform=(low, high)):
            return FloatDistribution(low, high, log=True)
        case Integer(int_=(low, high)):
            return IntDistribution(low, high)
        case Choice(choice=values):
            return CategoricalDistribution(values)


def build_sampler(kind: Sampler, num_trials: int, seed: int) -> BaseSampler:
    """The sampler of that name. Short searches model early: TPE and GP start after a quarter of the trials, at most
    after 10."""
    seed %= 2**32
    num_startup = min(10, max(3, num_trials // 4))
    match kind:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=num_startup, multivariate=True, constant_liar=True)
        case "random":
            return RandomSampler(seed=seed)
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=num_startup, warn_independent_sampling=False)
        case "cmaes":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)


def _by_short_name(point: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in point.items()}
