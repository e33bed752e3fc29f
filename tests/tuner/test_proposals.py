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

SAMPLERS = get_args(Sampler)
NUM_TRIALS = 9
PRUNED, FAILED = 3, 5


def space_with(sampler: str = "tpe", **changes: Any) -> SearchSpace:
    return space_of(
        search__sampler=sampler,
        search__trials=NUM_TRIALS,
        training__optimizer={"choice": ["sgd", "adamw"]},
        training__num_steps={"int": [1, 20]},
        **changes,
    )


def score(params: Mapping[str, Any]) -> float:
    return 1 - (params["alpha"] - 0.3) ** 2 - 0.01 * params["num_steps"] - 0.1 * (params["optimizer"] == "sgd")


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
    for number in range(NUM_TRIALS):
        if number == rebuild_at:
            proposer = Proposer(space, known)
        known[number] = running(proposer.propose())
        if number:
            end(known[number - 1])
            proposer.tell(known[number - 1])
    return known


def params_of(known: dict[int, TrialRecord]) -> list[dict[str, Any]]:
    return [trial.params for trial in known.values()]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_searches_propose_the_same(sampler: str) -> None:
    assert params_of(search(space_with(sampler))) == params_of(search(space_with(sampler)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_seed_proposes_something_else(sampler: str) -> None:
    assert params_of(search(space_with(sampler))) != params_of(search(space_with(sampler, search__seed=1)))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("rebuild_at", [1, 4, 6, 8])
def test_rebuilt_from_the_records_it_goes_on_as_it_would_have(sampler: str, rebuild_at: int) -> None:
    points = [{"gamma_fe": 0.02, "alpha": 0.2, "num_steps": 3, "optimizer": "sgd"}, {"alpha": 0.4}]
    space = space_with(sampler, search__first_points=points)
    assert params_of(search(space, rebuild_at)) == params_of(search(space))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_do_not_repeat_and_keep_to_their_ranges(sampler: str) -> None:
    space = space_with(sampler)
    proposed = params_of(search(space))
    assert len({json.dumps(params) for params in proposed}) == NUM_TRIALS
    for params in proposed:
        space.trial_config(params)
        assert 0.01 <= params["gamma_fe"] <= 0.1
        assert 0.1 <= params["alpha"] <= 1.0
        assert params["num_steps"] in range(1, 21)


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
