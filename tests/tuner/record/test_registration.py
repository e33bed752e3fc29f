from __future__ import annotations

from tests.tuner.tiny import baseline_events, history_of, record
from trainables.results import EnsembleResult, RetrainResult
from tuner.record.events import EnsembleTested, RetrainingFinished
from tuner.record.history import SearchHistory
from tuner.record.registration import model_registered

URI = "models:/tiny/3"


def retrained() -> SearchHistory:
    history = history_of(record(1, [0.6, 0.7]))
    for seed, score in enumerate((0.5, 0.7)):
        history.apply(RetrainingFinished(trial=1, result=RetrainResult(seed, score, 1.0, [], {})))
    return history


def test_the_model_is_the_network_of_one_seed_with_its_own_score() -> None:
    history = retrained()
    event = model_registered(history, history.trials[1], URI, 0)
    assert (event.trial, event.baseline, event.uri, event.seed, event.test_top1) == (1, None, URI, 0, 0.5)
    history.apply(event)
    assert history.registered(1) == event
    assert history.registered("linear_probe") is None


def test_an_ensemble_has_no_seed_and_its_own_score() -> None:
    history = retrained()
    history.apply(EnsembleTested(trial=1, result=EnsembleResult("weights", [0, 1], 0.8, 1.0)))
    event = model_registered(history, history.trials[1], URI, 0)
    assert (event.seed, event.test_top1) == (None, 0.8)


def test_a_baseline_may_be_the_model() -> None:
    history = SearchHistory.of(baseline_events("linear_probe", [0.9, 0.9], [0.8]))
    event = model_registered(history, history.baselines["linear_probe"], URI, 0)
    assert (event.trial, event.baseline, event.seed, event.test_top1) == (None, "linear_probe", 0, 0.8)
