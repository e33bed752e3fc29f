"""The search's mind: rebuilt from the journal at any point, it goes on as it would have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import fmean
from typing import Any, ClassVar, get_args

import pytest
from optuna.trial import TrialState

from tests.tuner.tiny import record, space_of, with_losses
from tuner.experiment.dimensions import DIMENSIONS
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import Sampler
from tuner.record.events import EarlierTrial, WarmStarted
from tuner.record.history import TrialRecord
from tuner.record.scores import FoldScore, RungScore
from tuner.scheduling import sampler as sampling
from tuner.scheduling.sampler import Proposal, TrialSampler, build_sampler, distribution
from tuner.scheduling.seen_trials import Limits
from tuner.scheduling.warm_start import SAMPLERS_WITHOUT_EVIDENCE

NUM_TRIALS = {"tpe": 9, "random": 9, "cmaes": 9, "gp": 6}  # a Gaussian process takes a second a proposal
PRUNED, FAILED = 2, 4
POINTS = [{"method.gamma_fe": 0.02, "method.alpha": 0.2}, {"method.alpha": 0.4}]


def space_with(sampler: str, **changes: Any) -> SearchExperiment:
    mixed = {"training__optimizer": {"choice": ["sgd", "adamw"]}, "training__num_steps": {"int": [1, 20]}}
    mixed = {} if sampler == "gp" else mixed
    return space_of(search__sampler=sampler, search__trials=NUM_TRIALS[sampler], **mixed, **changes)


def score(params: Mapping[str, Any]) -> float:
    return 1 - (params["method.alpha"] - 0.3) ** 2 - 0.01 * params.get("training.num_steps", 0)


def running(proposal: Proposal) -> TrialRecord:
    """The record that the journal keeps: everything went through JSON."""
    params, attrs = json.loads(json.dumps([proposal.params, proposal.attrs]))
    return TrialRecord(proposal.number, params, 0.0, attrs)


def end(trial: TrialRecord) -> None:
    value = score(trial.params)
    trial.state = {PRUNED: "pruned", FAILED: "failed"}.get(trial.number, "complete")  # type: ignore[assignment]
    scores = [value, value] if trial.state == "complete" else [value]
    trial.folds = record(trial.number, scores).folds


def search(space: SearchExperiment, rebuild_at: int | None = None) -> dict[int, TrialRecord]:
    """Two trials at a time: one is always running when the next is proposed."""
    known: dict[int, TrialRecord] = {}
    sampler = TrialSampler(space, known)
    for number in range(space.search.trials):
        if number == rebuild_at:
            sampler = TrialSampler(space, known)
        known[number] = running(sampler.propose())
        if number:
            end(known[number - 1])
            sampler.tell(known[number - 1])
    return known


def params_of(known: dict[int, TrialRecord]) -> list[dict[str, Any]]:
    return [trial.params for trial in known.values()]


@pytest.fixture(scope="module", params=get_args(Sampler))
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def space(sampler: str) -> SearchExperiment:
    return space_with(sampler, search__first_points=POINTS)


@pytest.fixture(scope="module")
def proposed(space: SearchExperiment) -> list[dict[str, Any]]:
    """What an uninterrupted search tries."""
    return params_of(search(space))


def test_two_searches_propose_the_same(space: SearchExperiment, proposed: list[dict[str, Any]]) -> None:
    assert params_of(search(space)) == proposed


@pytest.mark.parametrize("rebuild_at", [1, 3, 5])
def test_rebuilt_from_the_records_it_goes_on_as_it_would_have(
    space: SearchExperiment, proposed: list[dict[str, Any]], rebuild_at: int
) -> None:
    assert params_of(search(space, rebuild_at)) == proposed


def test_a_loss_is_minimised(sampler: str, proposed: list[dict[str, Any]], space: SearchExperiment) -> None:
    """The trials are those of the scores of which it is the complement, but for a Gaussian process, which rounds."""
    if sampler == "gp":
        pytest.skip("its proposals are continuous functions of the scores")
    known: dict[int, TrialRecord] = {}
    chosen = TrialSampler(space_with(sampler, search__objective="log_loss", search__first_points=POINTS), known)
    for number in range(space.search.trials):
        known[number] = running(chosen.propose())
        if number:
            end(known[number - 1])
            chosen.tell(with_losses(known[number - 1]))
    assert params_of(known) == proposed
    values = [trial.value for trial in chosen._study.trials if trial.state is TrialState.COMPLETE]
    assert values == [trial.score for trial in known.values() if trial.state == "complete"]
    assert all(value is not None and value < 0 for value in values)


def test_random_draws_are_those_of_the_default_where_time_alone_limits_the_trials() -> None:
    for num_trials, num_random in ((8, 3), (20, 5), (None, 5), (400, 10)):
        assert build_sampler("tpe", num_trials, 0)._n_startup_trials == num_random  # type: ignore[attr-defined]


def test_another_seed_proposes_something_else(sampler: str) -> None:
    first, second = (TrialSampler(space_with(sampler, search__seed=seed), {}).propose() for seed in (0, 1))
    assert first.params != second.params


def test_proposals_do_not_repeat_and_keep_to_their_ranges(
    space: SearchExperiment, proposed: list[dict[str, Any]]
) -> None:
    assert len({json.dumps(params) for params in proposed}) == space.search.trials
    for params in proposed:
        space.trial_config(params)
        assert 0.01 <= params["method.gamma_fe"] <= 0.1
        assert 0.1 <= params["method.alpha"] <= 1.0
        assert params.get("training.num_steps", 1) in range(1, 21)


class TestFirstPoints:
    def test_come_first_and_partial_ones_are_completed(self) -> None:
        whole = {"method.gamma_fe": 0.02, "method.alpha": 0.2}
        sampler = TrialSampler(
            space_of(search__first_points=[whole, {"method.alpha": 0.4}, {"method.gamma_fe": 0.03}]), {}
        )
        first, second, third, fourth = (sampler.propose() for _ in range(4))
        assert first.params == whole
        assert second.params["method.alpha"] == 0.4
        assert 0.01 <= second.params["method.gamma_fe"] <= 0.1
        assert third.params["method.gamma_fe"] == 0.03
        assert [p.source for p in (first, second, third, fourth)] == ["first_point"] * 3 + ["sampler"]

    def test_are_not_tried_again_after_a_resume(self) -> None:
        space = space_of(search__first_points=[{"method.alpha": 0.2}])
        first = TrialSampler(space, {}).propose()
        resumed = TrialSampler(space, {0: running(first)})
        assert resumed.propose().source == "sampler"


class TestTelling:
    @pytest.fixture(params=[False, True], ids=["live", "rebuilt"])
    def study(self, request: pytest.FixtureRequest) -> Any:
        space, known = space_of(), {}
        sampler = TrialSampler(space, known)
        for number, (scores, state) in enumerate(
            [([0.5, 0.7], "complete"), ([0.4], "pruned"), ([], "failed"), ([0.9], "failed"), ([0.3], "running")]
        ):
            known[number] = running(sampler.propose())
            known[number].state = state
            known[number].folds = record(number, scores).folds
            if state != "running":
                sampler.tell(known[number])
        return (TrialSampler(space, known) if request.param else sampler)._study

    def test_states_are_what_happened(self, study: Any) -> None:
        complete, pruned, failed, half_failed, running = study.trials
        assert complete.state is TrialState.COMPLETE
        assert complete.value == pytest.approx(0.6)
        assert pruned.state is TrialState.PRUNED
        assert pruned.intermediate_values == {500: 0.4}
        assert failed.state is half_failed.state is TrialState.FAIL
        assert failed.value is half_failed.value is None
        assert running.state is TrialState.RUNNING

    def test_nothing_but_a_whole_trial_can_be_the_studys_best(self, study: Any) -> None:
        assert study.best_trial.number == 0

    def test_an_end_is_told_once(self) -> None:
        sampler = TrialSampler(space_of(), {})
        trial = running(sampler.propose())
        trial.state, trial.folds = "complete", record(0, [0.5, 0.5]).folds
        sampler.tell(trial)
        sampler.tell(trial)
        assert [t.state for t in sampler._study.trials] == [TrialState.COMPLETE]


class TestRepetition:
    choices: ClassVar = {"method__gamma_fe": {"choice": [0.02, 0.03]}, "method__alpha": {"choice": [0.2, 0.3, 0.4]}}

    def all_of(self, rebuild_at: int | None = None, **changes: Any) -> dict[int, TrialRecord]:
        space = space_of(**self.choices, search__trials=6, **changes)
        return search(space, rebuild_at)

    @pytest.mark.parametrize("sampler", ["tpe", "random"])
    def test_a_finite_space_is_gone_through_once(self, sampler: str) -> None:
        tried = self.all_of(search__sampler=sampler)
        assert len({json.dumps(trial.params) for trial in tried.values()}) == 6
        assert TrialSampler(space_of(**self.choices), tried).exhausted

    @pytest.mark.parametrize("rebuild_at", range(1, 6))
    def test_rebuilt_it_goes_on_as_it_would_have(self, rebuild_at: int) -> None:
        assert params_of(self.all_of(rebuild_at)) == params_of(self.all_of())

    def test_partial_first_points_keep_what_they_say(self) -> None:
        tried = params_of(
            self.all_of(
                search__first_points=[{"method.alpha": 0.4}] * 2 + [{"method.alpha": 0.4, "method.gamma_fe": 0.02}]
            )
        )
        assert tried[0]["method.alpha"] == 0.4
        assert {"method.alpha": 0.4, "method.gamma_fe": 0.02} in tried[:2]

    @pytest.mark.parametrize("sampler", ["tpe", "random"])
    def test_a_first_point_that_a_partial_one_came_to_is_not_repeated(self, sampler: str) -> None:
        partial = {"method.alpha": 0.4}
        completed = TrialSampler(space_of(search__first_points=[partial], search__sampler=sampler), {}).propose().params
        sampler = TrialSampler(space_of(search__first_points=[partial, completed], search__sampler=sampler), {})
        first, second = sampler.propose(), sampler.propose()
        assert first.params == completed
        assert second.params != completed
        assert (first.source, second.source) == ("first_point", "sampler")

    def test_a_continuous_space_is_never_exhausted(self) -> None:
        assert not TrialSampler(space_of(), {}).exhausted


class TestOfVeryManyTrials:
    """Optuna sees a bounded part of them; here, of more than a dozen."""

    @pytest.fixture(autouse=True)
    def limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        few = dict.fromkeys(sampling.SEEN, Limits(best=3, latest=6, running=2))
        monkeypatch.setattr(sampling, "SEEN", few)

    def space(self, sampler: str, trials: int = 16) -> SearchExperiment:
        return space_of(search__sampler=sampler, search__trials=trials)

    def test_the_best_and_the_latest_are_seen(self) -> None:
        known = search(self.space("random"))
        study = TrialSampler(self.space("random"), known)._study
        seen = {trial.number for trial in study.get_trials(deepcopy=False)}
        complete = [trial for trial in known.values() if trial.state == "complete"]
        best = sorted(complete, key=lambda trial: -(trial.score or 0.0))[:3]
        assert seen == {*range(9, 16), *(trial.number for trial in best)}
        (waiting,) = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        assert waiting.number == 15

    @pytest.mark.parametrize("rebuild_at", [9, 14])
    def test_rebuilt_it_goes_on_as_it_would_have(self, sampler: str, rebuild_at: int) -> None:
        if sampler == "gp":
            pytest.skip("takes a second a proposal")
        space = self.space(sampler)
        assert params_of(search(space, rebuild_at)) == params_of(search(space))

    def test_proposals_still_gather_where_the_scores_are_high(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At an alpha of 0.3, of 0.1 to 1: at random they would be 0.13 below the maximum on average."""
        monkeypatch.setattr(sampling, "SEEN", {"tpe": Limits(best=10, latest=20, running=4)})
        latest = list(search(self.space("tpe", trials=60)).values())[40:]
        assert fmean(score(trial.params) for trial in latest) > 0.93


class TestWarmStart:
    event: ClassVar = WarmStarted(
        trials=tuple(
            EarlierTrial(
                origin=f"earlier trial at {a}",
                params={"method.gamma_fe": 0.02, "method.alpha": a},
                state=state,
                folds=tuple(FoldScore(fold=k, val_top1=score) for k, score in enumerate(scores, start=1)),
            )
            for a, state, scores in [(0.3, "complete", [0.8, 0.9]), (0.4, "pruned", [0.1]), (0.5, "failed", [])]
        ),
        first_points=({"method.gamma_fe": 0.05, "method.alpha": 0.6},),
    )

    def test_evidence_stands_before_the_searchs_own_trials_which_keep_their_numbers(self) -> None:
        sampler = TrialSampler(space_of(), {}, self.event)
        trial = running(sampler.propose())
        assert trial.number == 0
        trial.state, trial.folds = "complete", record(0, [0.5, 0.5]).folds
        sampler.tell(trial)
        states = [t.state for t in sampler._study.trials]
        assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]
        assert [t.value for t in sampler._study.trials] == [pytest.approx(0.85), None, None, 0.5]
        assert sampler._study.trials[1].intermediate_values == {500: 0.1}

    def test_evidence_is_scored_by_the_metric_of_this_search(self) -> None:
        (complete, pruned, failed) = self.event.trials
        losses = [fold.model_copy(update={"metrics": {"log_loss": 1 - fold.val_top1}}) for fold in complete.folds]
        rung = RungScore(fold=1, step=1, share=0.5, val_top1=0.1, metrics={"log_loss": 2.5})
        event = WarmStarted(
            trials=(
                complete.model_copy(update={"folds": tuple(losses)}),
                pruned.model_copy(update={"folds": (), "rungs": (rung,)}),
                failed,
            )
        )
        sampler = TrialSampler(space_of(search__objective="log_loss"), {}, event)
        assert sampler._study.trials[0].value == pytest.approx(-0.15)
        assert sampler._study.trials[1].intermediate_values == {250: -2.5}

    def test_rebuilt_it_goes_on_as_it_would_have(self, sampler: str) -> None:
        space = space_of(search__sampler=sampler)
        whole = TrialSampler(space, {}, self.event)
        first = whole.propose()
        again = TrialSampler(space, {0: running(first)}, self.event)
        assert again.propose().params == whole.propose().params

    def test_it_makes_a_difference(self, sampler: str) -> None:
        if sampler in SAMPLERS_WITHOUT_EVIDENCE:
            pytest.skip("as it says when it starts")
        evidence = WarmStarted(trials=self.event.trials[:1] * 12)
        space = space_of(search__sampler=sampler)
        assert TrialSampler(space, {}, evidence).propose().params != TrialSampler(space, {}).propose().params

    def test_its_first_points_come_after_the_files_and_nothing_is_tried_again(self) -> None:
        points = [{"method.gamma_fe": 0.02, "method.alpha": 0.3}, {"method.gamma_fe": 0.03, "method.alpha": 0.3}]
        sampler = TrialSampler(space_of(search__first_points=points), {}, self.event)
        proposed = [sampler.propose() for _ in range(3)]
        assert [p.params for p in proposed[:2]] == [points[1], self.event.first_points[0]]
        assert [p.source for p in proposed] == ["first_point", "first_point", "sampler"]

    def test_a_finite_space_has_only_what_is_left(self) -> None:
        space = space_of(**TestRepetition.choices)
        left = TrialSampler(space, {}, WarmStarted(trials=self.event.trials[:2]))
        tried = [left.propose().params for _ in range(4)]
        assert left.exhausted
        assert not [params for params in tried if params in [trial.params for trial in self.event.trials]]


@pytest.mark.parametrize(
    ("spelt", "low", "high", "log"),
    [({"uniform": [0, 1]}, 0, 1, False), ({"log_uniform": [0.1, 1]}, 0.1, 1, True), ({"int": [1, 5]}, 1, 5, False)],
)
def test_distributions_are_the_dimensions(spelt: dict[str, Any], low: float, high: float, log: bool) -> None:
    found = distribution(DIMENSIONS[next(iter(spelt))].model_validate(spelt))
    assert (found.low, found.high, found.log) == (low, high, log)  # type: ignore[attr-defined]


def test_without_dimensions_there_is_one_thing_to_propose() -> None:
    assert TrialSampler(space_of(method__gamma_fe=0.02, method__alpha=0.2), {}).propose().params == {}
