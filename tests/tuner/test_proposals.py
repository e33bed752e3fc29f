"""The search's mind: rebuilt from the journal at any point, it goes on as it would have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from optuna.trial import TrialState

from tests.tuner.tiny import record, space_of
from tuner.dimensions import DIMENSIONS
from tuner.journal import TrialRecord
from tuner.proposals import Proposal, Proposer, distribution, intermediate_values
from tuner.settings import Sampler
from tuner.space import SearchSpace

NUM_TRIALS = {"tpe": 9, "random": 9, "cmaes": 9, "gp": 6}  # a Gaussian process takes a second a proposal
PRUNED, FAILED = 2, 4


def space_with(sampler: str, **changes: Any) -> SearchSpace:
    mixed = {"training__optimizer": {"choice": ["sgd", "adamw"]}, "training__num_steps": {"int": [1, 20]}}
    mixed = {} if sampler == "gp" else mixed
    return space_of(search__sampler=sampler, search__trials=NUM_TRIALS[sampler], **mixed, **changes)


def score(params: Mapping[str, Any]) -> float:
    return 1 - (params["alpha"] - 0.3) ** 2 - 0.01 * params.get("num_steps", 0)


def running(proposal: Proposal) -> TrialRecord:
    """The record that the journal keeps: everything went through JSON."""
    params, attrs = json.loads(json.dumps([proposal.params, proposal.attrs]))
    return TrialRecord(proposal.number, params, 0.0, attrs)


def end(trial: TrialRecord) -> None:
    value = score(trial.params)
    trial.state = {PRUNED: "pruned", FAILED: "failed"}.get(trial.number, "complete")  # type: ignore[assignment]
    scores = [value, value] if trial.state == "complete" else [value]
    trial.folds = record(trial.number, scores).folds


def search(space: SearchSpace, rebuild_at: int | None = None) -> dict[int, TrialRecord]:
    """Two trials at a time: one is always running when the next is proposed."""
    known: dict[int, TrialRecord] = {}
    proposer = Proposer(space, known)
    for number in range(space.search.trials):
        if number == rebuild_at:
            proposer = Proposer(space, known)
        known[number] = running(proposer.propose())
        if number:
            end(known[number - 1])
            proposer.tell(known[number - 1])
    return known


def params_of(known: dict[int, TrialRecord]) -> list[dict[str, Any]]:
    return [trial.params for trial in known.values()]


@pytest.fixture(scope="module", params=get_args(Sampler))
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def space(sampler: str) -> SearchSpace:
    return space_with(sampler, search__first_points=[{"gamma_fe": 0.02, "alpha": 0.2}, {"alpha": 0.4}])


@pytest.fixture(scope="module")
def proposed(space: SearchSpace) -> list[dict[str, Any]]:
    """What an uninterrupted search tries."""
    return params_of(search(space))


def test_two_searches_propose_the_same(space: SearchSpace, proposed: list[dict[str, Any]]) -> None:
    assert params_of(search(space)) == proposed


@pytest.mark.parametrize("rebuild_at", [1, 3, 5])
def test_rebuilt_from_the_records_it_goes_on_as_it_would_have(
    space: SearchSpace, proposed: list[dict[str, Any]], rebuild_at: int
) -> None:
    assert params_of(search(space, rebuild_at)) == proposed


def test_another_seed_proposes_something_else(sampler: str) -> None:
    first, second = (Proposer(space_with(sampler, search__seed=seed), {}).propose() for seed in (0, 1))
    assert first.params != second.params


def test_proposals_do_not_repeat_and_keep_to_their_ranges(space: SearchSpace, proposed: list[dict[str, Any]]) -> None:
    assert len({json.dumps(params) for params in proposed}) == space.search.trials
    for params in proposed:
        space.trial_config(params)
        assert 0.01 <= params["gamma_fe"] <= 0.1
        assert 0.1 <= params["alpha"] <= 1.0
        assert params.get("num_steps", 1) in range(1, 21)


class TestFirstPoints:
    def test_come_first_and_partial_ones_are_completed(self) -> None:
        whole = {"gamma_fe": 0.02, "alpha": 0.2}
        proposer = Proposer(space_of(search__first_points=[whole, {"alpha": 0.4}, {"method.gamma_fe": 0.03}]), {})
        first, second, third, fourth = (proposer.propose() for _ in range(4))
        assert first.params == whole
        assert second.params["alpha"] == 0.4
        assert 0.01 <= second.params["gamma_fe"] <= 0.1
        assert third.params["gamma_fe"] == 0.03
        assert [p.source for p in (first, second, third, fourth)] == ["first_point"] * 3 + ["sampler"]

    def test_are_not_tried_again_after_a_resume(self) -> None:
        space = space_of(search__first_points=[{"alpha": 0.2}])
        first = Proposer(space, {}).propose()
        resumed = Proposer(space, {0: running(first)})
        assert resumed.propose().source == "sampler"


class TestTelling:
    @pytest.fixture(params=[False, True], ids=["live", "rebuilt"])
    def study(self, request: pytest.FixtureRequest) -> Any:
        space, known = space_of(), {}
        proposer = Proposer(space, known)
        for number, (scores, state) in enumerate(
            [([0.5, 0.7], "complete"), ([0.4], "pruned"), ([], "failed"), ([0.9], "failed"), ([0.3], "running")]
        ):
            known[number] = running(proposer.propose())
            known[number].state = state
            known[number].folds = record(number, scores).folds
            if state != "running":
                proposer.tell(known[number])
        return (Proposer(space, known) if request.param else proposer)._study

    def test_states_are_what_happened(self, study: Any) -> None:
        complete, pruned, failed, half_failed, running = study.trials
        assert complete.state is TrialState.COMPLETE
        assert complete.value == pytest.approx(0.6)
        assert pruned.state is TrialState.PRUNED
        assert pruned.intermediate_values == {1: 0.4}
        assert failed.state is half_failed.state is TrialState.FAIL
        assert failed.value is half_failed.value is None
        assert running.state is TrialState.RUNNING

    def test_nothing_but_a_whole_trial_can_be_the_studys_best(self, study: Any) -> None:
        assert study.best_trial.number == 0

    def test_an_end_is_told_once(self) -> None:
        proposer = Proposer(space_of(), {})
        trial = running(proposer.propose())
        trial.state, trial.folds = "complete", record(0, [0.5, 0.5]).folds
        proposer.tell(trial)
        proposer.tell(trial)
        assert [t.state for t in proposer._study.trials] == [TrialState.COMPLETE]


def test_intermediate_values_are_running_means() -> None:
    assert intermediate_values(record(0, [0.5, 0.7, 0.9])) == pytest.approx({1: 0.5, 2: 0.6, 3: 0.7})


@pytest.mark.parametrize(
    ("spelt", "low", "high", "log"),
    [({"uniform": [0, 1]}, 0, 1, False), ({"log_uniform": [0.1, 1]}, 0.1, 1, True), ({"int": [1, 5]}, 1, 5, False)],
)
def test_distributions_are_the_dimensions(spelt: dict[str, Any], low: float, high: float, log: bool) -> None:
    found = distribution(DIMENSIONS[next(iter(spelt))].model_validate(spelt))
    assert (found.low, found.high, found.log) == (low, high, log)  # type: ignore[attr-defined]


def test_without_dimensions_there_is_one_thing_to_propose() -> None:
    assert Proposer(space_of(method__gamma_fe=0.02, method__alpha=0.2), {}).propose().params == {}
