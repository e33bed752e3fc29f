"""Sampling of configurations with Optuna, which only this module and `tuner.reports.importance` import.

The study is in memory and rebuilt from the journal: a second durable record could disagree with it after a crash. Every
proposal comes from a sampler seeded with the trial's number, so that it depends on the known trials alone, and a
resumed search proposes what it would have without the interruption.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from trainables.config import TrialConfig
from trainables.seeding import rng_for, seed_for
from tuner.experiment.alternatives import NO_BRANCHES, Branches
from tuner.experiment.dimensions import Choice, Dimension, Integer, LogUniform, Uniform
from tuner.experiment.objective import Objective
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import DEFAULT_NUM_TRIALS, Sampler
from tuner.messages.validation import problems_from_pydantic
from tuner.record.events import Params, ProposalSource, WarmStarted
from tuner.record.history import TrialRecord
from tuner.scheduling.configurations import num_configurations, values_of
from tuner.scheduling.evidence import earlier_record, intermediate_values
from tuner.scheduling.seen_trials import Limits, SeenTrials

STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Proposal:
    """Configuration to try.

    `params` are the dimensions that exist in the trial, by key, `config` the whole configuration, checked. It is None
    if the combination is invalid, which `problem` explains. `attrs` are the sampler's attributes, from which its study
    is rebuilt.
    """

    number: int
    params: Params
    source: ProposalSource
    attrs: dict[str, Any]
    config: TrialConfig | None
    problem: str = ""


class TrialSampler:
    """Sampler with an ask-and-tell interface, over the study that `known` trials and a warm start make.

    Trials of earlier searches (`warm_start`) precede this search's own in the study. No configuration is proposed
    twice, nor one that an earlier search has tried. Of very many trials, Optuna sees the part in `SEEN`.

        sampler = TrialSampler(space, history.trials)
        proposal = sampler.propose()
        ...  # the trial is trained and recorded
        sampler.tell(history.trials[proposal.number])
    """

    def __init__(
        self, space: SearchExperiment, known: Mapping[int, TrialRecord], warm_start: WarmStarted | None = None
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._distributions = {path: distribution(dimension) for path, dimension in space.dimensions.items()}
        self._storage = _Storage(SeenTrials(SEEN[space.search.sampler]))
        self._study = optuna.create_study(storage=self._storage, direction="maximize", study_name=space.name)
        objective = Objective(space.search.objective)
        evidence = [] if warm_start is None else [earlier_record(trial, objective) for trial in warm_start.trials]
        self._study.add_trials([self._frozen(trial) for trial in evidence])
        self._tried = {_key(trial.params) for trial in evidence}
        points = [*space.search.first_points, *(warm_start.first_points if warm_start is not None else ())]
        self._first_points = self._untried_points(points)
        self._running: dict[int, optuna.Trial] = {}
        self._untried: dict[str, Params] | None = None
        self._num_proposed = 0
        for number in sorted(known):
            self._study.add_trial(self._frozen(known[number]))
            if known[number].state == "running":
                self._running[number] = optuna.Trial(self._study, self._storage.last_id)
            self._add_tried(known[number].params)

    @property
    def exhausted(self) -> bool:
        """Whether every configuration of the space has been tried."""
        return self._num_configurations <= len(self._tried)

    def propose(self) -> Proposal:
        """Proposes the next trial: first points first, completed by the sampler if they are partial.

        The proposal counts as tried at once, and its trial as running until `tell`.
        """
        settings, number = self._space.search, self._num_proposed
        seed = seed_for(settings.seed, "proposal", number)
        before, self._study.sampler = self._study.sampler, self._build_sampler(settings.sampler, seed)
        if isinstance(before, TPESampler) and isinstance(self._study.sampler, TPESampler):
            # Else it would process every trial again. It does so for the groups of a space with alternatives: their
            # order would depend on the order in which trials ended, which a resumed search does not have.
            self._study.sampler._search_space = before._search_space
        point = self._first_points[number] if number < len(self._first_points) else {}
        trial = self._ask(point)
        if self._was_tried(trial.params) and not self.exhausted:
            self._study.tell(trial, state=TrialState.FAIL)  # which samplers ignore
            trial = self._ask_untried(point, number)
        self._running[number] = trial
        self._add_tried(trial.params)
        is_first_point = bool(point) and point.items() <= trial.params.items()
        source: ProposalSource = "first_point" if is_first_point else "sampler"
        return self._checked(number, trial.params, source, dict(self._attrs_of(trial)))

    def _checked(self, number: int, params: Params, source: ProposalSource, attrs: dict[str, Any]) -> Proposal:
        try:
            return Proposal(number, params, source, attrs, self._space.trial_config(params))
        except ValidationError as error:
            problems = "; ".join(map(str, problems_from_pydantic(error, TrialConfig)))
            return Proposal(number, params, source, attrs, None, f"its configuration is invalid: {problems}")

    def _ask(self, point: Mapping[str, Any]) -> optuna.Trial:
        """Asks for a trial at `point`, which may be partial; dimension by dimension, as one decides on others."""
        if point:
            self._study.enqueue_trial(dict(point))
        trial = self._study.ask()
        params: Params = {}
        for key, distribution in self._distributions.items():
            if self._space.branches.is_active(key, params):
                params[key] = trial._suggest(key, distribution)
        if self._space.branches.alternatives:
            self._forget_drawn(trial)
        return trial

    def _forget_drawn(self, trial: optuna.Trial) -> None:
        """Removes what a sampler drew together. Part of it is for alternatives that were not chosen, and would be taken
        for a running trial there; the rest is in the trial's parameters."""
        for attr in list(self._attrs_of(trial)):
            if attr.startswith(DRAWN):
                self._storage.set_trial_system_attr(trial._trial_id, attr, "")

    def _build_sampler(self, kind: Sampler, seed: int) -> BaseSampler:
        return build_sampler(kind, self._space.search.trials, seed, self._space.branches)

    def _attrs_of(self, trial: optuna.Trial) -> dict[str, Any]:
        return self._storage.get_trial(trial._trial_id).system_attrs

    def _add_tried(self, params: Mapping[str, Any]) -> None:
        self._num_proposed += 1
        self._tried.add(_key(params))
        if self._untried is not None:
            self._untried.pop(_key(params), None)

    @cached_property
    def _num_configurations(self) -> float:
        """Number of configurations; infinite if a dimension is continuous."""
        return num_configurations(self._space.dimensions, self._space.branches)

    def _ask_untried(self, point: Mapping[str, Any], number: int) -> optuna.Trial:
        """Asks for a configuration that has not been tried.

        In a space of at most `MAX_LISTED` configurations it is one at random, at `point` if possible; in a larger one
        it is the sampler's proposal without `point`, or a random draw if there was no point.
        """
        seed = self._space.search.seed
        if self._num_configurations > MAX_LISTED:
            if not point:
                self._study.sampler = self._build_sampler("random", seed_for(seed, "no repetition", number))
            return self._ask({})
        untried = self._list_untried()
        at_point = [params for params in untried if point.items() <= params.items()] or untried
        return self._ask(at_point[rng_for(seed, "no repetition", number).integers(len(at_point))])

    def _list_untried(self) -> list[Params]:
        """Lists the configurations that have not been tried, of a space in which they can be enumerated."""
        if self._untried is None:
            values = {key: values_of(dimension) or () for key, dimension in self._space.dimensions.items()}
            grid = {_key(params): params for params in self._space.branches.grid(values)}
            self._untried = {key: params for key, params in grid.items() if key not in self._tried}
        return list(self._untried.values())

    def _was_tried(self, params: Mapping[str, Any]) -> bool:
        return _key(params) in self._tried

    def _untried_points(self, points: Sequence[Params]) -> list[Params]:
        """Removes repetitions and points that an earlier search has tried."""
        return [point for point in {_key(point): point for point in points}.values() if not self._was_tried(point)]

    def tell(self, record: TrialRecord) -> None:
        """Updates the study by an ended trial. One that was stopped early is pruned, with the means of its folds."""
        trial = self._running.pop(record.number, None)
        if trial is None:
            return  # it is in the study already, read from the journal
        if record.state == "complete":
            self._study.tell(trial, record.score)
            return
        for step, score in intermediate_values(record, self._space.search.num_trial_folds).items():
            trial.report(score, step)
        self._study.tell(trial, state=STATES[record.state])

    def _frozen(self, record: TrialRecord) -> FrozenTrial:
        is_incomplete = record.state in ("pruned", "failed")  # a complete one has its value; a running one none yet
        return optuna.trial.create_trial(
            state=STATES[record.state],
            params=record.params,
            distributions={key: self._distributions[key] for key in record.params},
            value=record.score,
            intermediate_values=intermediate_values(record, self._space.search.num_trial_folds)
            if is_incomplete
            else {},
            system_attrs=record.attrs,
        )


DRAWN = ("tpe:relative_params", "gp:relative_params")
"""Prefixes of the attributes in which samplers keep what they have drawn for a running trial."""

SEEN: Mapping[Sampler, Limits] = {
    "tpe": Limits(best=100, latest=400, running=500),
    "gp": Limits(best=50, latest=150, running=100),
    "cmaes": Limits(best=1, latest=1000, running=1),
    "random": Limits(best=1, latest=1, running=1),
}
"""Trials that each sampler sees. CMA-ES reads its own state off the latest, and random draws depend on none. What a
proposal of a Gaussian process takes grows with the cube of their number."""

MAX_LISTED = 10_000
"""Number of configurations up to which they are enumerated to find an untried one."""


def distribution(dimension: Dimension) -> BaseDistribution:
    """Converts a dimension to Optuna's distribution."""
    match dimension:
        case Uniform(uniform=(low, high)):
            return FloatDistribution(low, high)
        case LogUniform(log_uniform=(low, high)):
            return FloatDistribution(low, high, log=True)
        case Integer(int_=(low, high)):
            return IntDistribution(low, high)
        case Choice(choice=values):
            return CategoricalDistribution(values)


class _Storage(InMemoryStorage):
    """Optuna's storage in memory, of one study. Its samplers see a part of very many trials."""

    def __init__(self, seen: SeenTrials) -> None:
        super().__init__()
        self._seen = seen

    @property
    def last_id(self) -> int:
        """Identifier of the trial that was created last."""
        return self._max_trial_id

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        self._note(self.get_trial(trial_id))
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        is_set = super().set_trial_state_values(trial_id, state, values)
        self._note(self.get_trial(trial_id))
        return is_set

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if self._seen.are_all or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = map(self.get_trial, self._seen.numbers)  # identifiers are numbers, as there is one study
        return [trial for trial in trials if states is None or trial.state in states]

    def _note(self, trial: FrozenTrial) -> None:
        match trial.state:
            case TrialState.RUNNING:
                self._seen.start(trial.number)
            case TrialState.COMPLETE | TrialState.PRUNED:
                self._seen.end(trial.number, trial.value if trial.state is TrialState.COMPLETE else None)
            case _:
                self._seen.leave_out(trial.number)


class _UnconditionalCmaEs(CmaEsSampler):
    """CMA-ES over the dimensions without a condition; the others are drawn at random.

    Optuna's takes the dimensions of all complete trials. These lose some once a second alternative is tried, and CMA-ES
    can go on in no other space than it began in.
    """

    def __init__(self, conditions: Collection[str], seed: int) -> None:
        super().__init__(seed=seed, warn_independent_sampling=False)
        self._conditions = conditions

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        found = super().infer_relative_search_space(study, trial)
        return {key: distribution for key, distribution in found.items() if key not in self._conditions}


def build_sampler(kind: Sampler, num_trials: int | None, seed: int, branches: Branches = NO_BRANCHES) -> BaseSampler:
    """Builds Optuna's sampler of that name.

    TPE and GP draw at random for the first quarter of the trials, at least 3 and at most 10 of them; where time alone
    limits the trials (None), as for the default number of them. TPE also uses
    pruned trials, which it ranks below the complete ones, by progress and then by score. GP uses complete trials only,
    and CMA-ES only those of them that it proposed itself.

    In a space with alternatives, TPE models the dimensions of each alternative as a group, from the trials that chose
    it. GP models the dimensions that all of its trials have, CMA-ES those without a condition; they draw the others at
    random.
    """
    seed %= 2**32
    num_startup = min(10, max(3, (num_trials or DEFAULT_NUM_TRIALS) // 4))
    match kind:
        case "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # of `group`
                return TPESampler(
                    seed=seed,
                    n_startup_trials=num_startup,
                    multivariate=True,
                    constant_liar=True,
                    group=bool(branches.alternatives),
                )
        case "random":
            return RandomSampler(seed=seed)
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=num_startup, warn_independent_sampling=False)
        case "cmaes":
            return _UnconditionalCmaEs(branches.conditions, seed)


def _key(params: Mapping[str, Any]) -> str:
    """Key that is equal for equal configurations, also if one has 1 and the other 1.0."""
    numbers = {name: float(value) for name, value in params.items() if type(value) is int}
    return json.dumps({**params, **numbers}, sort_keys=True)
