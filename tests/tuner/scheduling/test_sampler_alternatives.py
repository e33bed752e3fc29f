"""Spaces with alternatives under every sampler: define-by-run, resumed, without repetition."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from tests.tuner.scheduling.test_sampler import end, params_of, running, search
from tests.tuner.tiny import GAMMA, METHODS, TRAININGS, record, space_of
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import Sampler
from tuner.record.events import EarlierTrial, WarmStarted
from tuner.record.history import TrialRecord
from tuner.record.scores import FoldScore
from tuner.scheduling import sampler as of_sampler
from tuner.scheduling.configurations import num_configurations
from tuner.scheduling.sampler import TrialSampler

NUM_TRIALS = {"tpe": 14, "random": 8, "cmaes": 14, "gp": 7}
POINTS = [{"method": "smile", "alpha": 0.2}, {"gamma_fe": 0.02}, {"method": "l2", "training": "frozen"}]


@pytest.fixture(autouse=True)
def scored_by_what_all_trials_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A score for trials of every alternative, in place of that of ordinary spaces."""
    monkeypatch.setattr("tests.tuner.scheduling.test_sampler.score", score)


def score(params: Mapping[str, Any]) -> float:
    alpha = next((value for key, value in params.items() if key.endswith(".alpha")), 0.9)
    return {"l2": 0.5, "mixup": 0.6, "smile": 0.7}[params["method"]] - (alpha - 0.3) ** 2


@pytest.fixture(scope="module", params=get_args(Sampler))
def space(request: pytest.FixtureRequest) -> SearchExperiment:
    kind = str(request.param)
    momentum = {"momentum": {"uniform": [0.1, 0.9]}, "weight_decay": {"log_uniform": [1e-5, 1e-3]}}
    return space_of(
        method=METHODS,
        training=TRAININGS | momentum,
        search__sampler=kind,
        search__trials=NUM_TRIALS[kind],
        search__first_points=POINTS,
    )


def test_a_proposal_has_what_exists_in_it_and_is_valid(space: SearchExperiment) -> None:
    proposed = params_of(search(space))
    assert len({json.dumps(params) for params in proposed}) == len(proposed)
    assert [list(params) for params in proposed] == [space.branches.active(space.dimensions, p) for p in proposed]
    for params in proposed:
        config = space.trial_config(params)
        assert config.method.name == params["method"]
        assert config.training.batch_norm == {"frozen": "frozen", "moving": "train"}[params["training"]]
    assert len({params["method"] for params in proposed}) > 1


def test_first_points_come_first_and_are_completed_in_their_alternative(space: SearchExperiment) -> None:
    sampler = TrialSampler(space, {})
    first, second, third, fourth = (sampler.propose() for _ in range(4))
    assert (first.params["method"], first.params["method.smile.alpha"]) == ("smile", 0.2)
    assert (second.params["method"], second.params["method.smile.gamma_fe"]) == ("smile", 0.02)
    assert (third.params["method"], third.params["training"]) == ("l2", "frozen")
    assert [p.source for p in (first, second, third, fourth)] == ["first_point"] * 3 + ["sampler"]


def test_rebuilt_from_the_records_it_goes_on_as_it_would_have(space: SearchExperiment) -> None:
    proposed = params_of(search(space))
    for rebuild_at in (1, 4, NUM_TRIALS[space.search.sampler] - 1):
        assert params_of(search(space, rebuild_at)) == proposed


def test_trials_that_end_in_another_order_are_rebuilt_to_the_same() -> None:
    """The groups of TPE must not depend on which trial, and so which alternative, ended first."""
    space = space_of(method=METHODS, training=TRAININGS, search__trials=12)
    known: dict[int, TrialRecord] = {}
    sampler = TrialSampler(space, known)
    for _ in range(6):
        proposal = sampler.propose()
        known[proposal.number] = running(proposal)
    for number in (5, 1, 4, 0, 3):  # trial 2 still runs
        end(known[number])
        known[number].state, known[number].folds = "complete", record(number, [score(known[number].params)] * 2).folds
        sampler.tell(known[number])
    rebuilt = TrialSampler(space, known)
    assert [sampler.propose().params for _ in range(4)] == [rebuilt.propose().params for _ in range(4)]


def test_what_was_drawn_for_other_alternatives_is_not_taken_for_a_running_trial() -> None:
    space = space_of(method=METHODS, search__trials=12)
    known = search(space)
    attrs = [name for trial in known.values() for name, value in trial.attrs.items() if value]
    assert not [name for name in attrs if name.startswith(of_sampler.DRAWN)]


def test_tpe_learns_which_alternative_is_good() -> None:
    space = space_of(method=METHODS, search__trials=30)
    proposed = params_of(search(space))
    late = [params["method"] for params in proposed[12:]]
    assert late.count("smile") > len(late) / 2


def test_cmaes_goes_on_when_another_alternative_is_tried() -> None:
    """Optuna's own would take the dimensions of the first alternative into its space, and then propose at random."""
    momentum = {"momentum": {"uniform": [0.1, 0.9]}, "weight_decay": {"log_uniform": [1e-5, 1e-3]}}
    points: list[dict[str, Any]] = [{"method": "smile", "alpha": 0.1 + 0.02 * i} for i in range(14)]
    space = space_of(
        method=METHODS,
        training={"num_steps": 2, **momentum},
        search__sampler="cmaes",
        search__trials=20,
        search__first_points=[*points, {"method": "l2"}],
    )
    known = search(space)
    assert known[19].attrs.get("cma:generation", 0) > 0


FINITE = {
    "choice": [
        {"name": "l2"},
        {"name": "mixup", "alpha": {"choice": [0.1, 0.2]}},
        {"label": "mixers", "alpha": {"choice": [0.1, 0.2, 0.3]}, "choice": [{"name": "cutmix"}, {"name": "mixup"}]},
    ]
}


class TestExhaustion:
    def space(self, kind: str = "tpe", **changes: Any) -> SearchExperiment:
        flip = {"data__flip": {"choice": [True, False]}}
        return space_of(method=FINITE, **flip, search__sampler=kind, search__trials=18, **changes)

    def test_configurations_are_counted_by_alternative(self) -> None:
        space = self.space()
        assert num_configurations(space.dimensions, space.branches) == 2 * (1 + 2 + 3 * 2)
        continuous = space_of(method={"choice": [{"name": "l2"}, {"name": "smile", "gamma_fe": GAMMA}]})
        assert num_configurations(continuous.dimensions, continuous.branches) == float("inf")

    @pytest.mark.parametrize("kind", ["tpe", "random", "cmaes"])
    def test_a_finite_space_is_gone_through_once(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.tuner.scheduling.test_sampler.score", lambda params: 0.01 * len(params))
        space = self.space(kind)
        tried = search(space)
        assert len({json.dumps(trial.params) for trial in tried.values()}) == 18
        assert TrialSampler(space, tried).exhausted
        resumed = search(space, rebuild_at=9)
        assert params_of(resumed) == params_of(tried)


def test_evidence_of_earlier_searches_is_taken_by_alternative() -> None:
    params: list[dict[str, Any]] = [
        {"method": "l2"},
        {"method": "smile", "method.smile.gamma_fe": 0.02, "method.smile.alpha": 0.3},
    ]
    folds = tuple(FoldScore(fold=k, val_top1=0.5) for k in (1, 2))
    trials = tuple(EarlierTrial(origin="earlier", params=each, state="complete", folds=folds) for each in params)
    event = WarmStarted(trials=trials, first_points=({"method": "mixup", "method.mixup.alpha": 0.3},))
    space = space_of(method=METHODS)
    sampler = TrialSampler(space, {}, event)
    first = sampler.propose()
    assert first.params == {"method": "mixup", "method.mixup.alpha": 0.3}
    assert [set(trial.params) for trial in sampler._study.trials[:2]] == [set(each) for each in params]
    again = TrialSampler(space, {0: running(first)}, event)
    assert again.propose().params == sampler.propose().params
