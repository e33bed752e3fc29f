"""The model card says of a model what a user of it has to know, in the numbers of its search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import add_trial, baseline_events, search_journal, space_of
from trainables.classifier import ClassifierDescription
from trainables.results import EnsembleResult, RetrainResult
from tuner.record.events import BaselineRetrained, EnsembleTested, RetrainingFinished
from tuner.record.journal import SearchJournal
from tuner.reports.model_card import model_card
from tuner.reports.search_result import search_result_of

SPACE = space_of(data__dataset="imagefolder", data__root="/home/somebody/photos")
MADE_S = 1_767_225_600.0  # 2026-01-01 00:00 UTC


@pytest.fixture
def journal(tmp_path: Path) -> SearchJournal:
    journal = search_journal(tmp_path)
    add_trial(journal, 0, [0.6, 0.6])
    add_trial(journal, 1, [0.8, 0.7])
    for seed, score in enumerate([0.9, 0.8]):
        journal.append(RetrainingFinished(trial=1, result=RetrainResult(seed, score, 1.0, [], {})))
    for event in baseline_events("linear_probe", [0.7, 0.6], [0.75]):
        journal.append(event)
    return journal


def card_of(journal: SearchJournal, **changes: Any) -> str:
    config = SPACE.trial_config(journal.history.trials[1].params)
    described = ClassifierDescription(
        class_names=("apple", "pear|fig"), config=config, versions={"smile-tuner": "0.1.0", "torch": "2.9"}, **changes
    )
    result = search_result_of(SPACE, journal.directory, journal.history, "sqlite://", 1.0)
    return model_card("fruit", result, described, 0, 480, MADE_S)


def test_scores_are_those_of_the_model_its_configuration_and_the_baselines(journal: SearchJournal) -> None:
    lines = card_of(journal).splitlines()
    assert lines[0] == "# fruit"
    assert lines[2] == "Classifies photographs into 2 classes. Made by smile-tuner 0.1.0 on 2026-01-01."
    assert [line for line in lines if line.startswith("| ") and "validation" not in line] == [
        "| **this model, the network of seed 0** | – | **0.9000** |",
        "| trial-0001, the best of the search (the configuration of this model) "
        "| 0.7500 (2 folds) | 0.8500 ± 0.0707 (2 seeds) |",
        "| linear probe | 0.6500 (2 folds) | 0.7500 (1 seed) |",
    ]
    assert (
        "Validation top-1 chose the configuration, among 2 trials and 1 baseline, and is optimistic for it."
        in card_of(journal)
    )


def test_an_ensemble_is_the_model(journal: SearchJournal) -> None:
    journal.append(EnsembleTested(trial=1, result=EnsembleResult("weights", [0, 1], 0.95, 1.0)))
    card = card_of(journal)
    assert "| **this model, the mean weights of 2 networks** | – | **0.9500** |" in card
    assert "seed 0" not in card


def test_the_model_may_be_that_of_a_baseline(journal: SearchJournal) -> None:
    for event in baseline_events("fine_tuning", [0.9, 0.9]):
        journal.append(event)
    journal.append(BaselineRetrained(baseline="fine_tuning", result=RetrainResult(0, 0.91, 1.0, [], {})))
    card = card_of(journal)
    assert "| **this model, the network of seed 0** | – | **0.9100** |" in card
    assert "| fine-tuning (the configuration of this model) | 0.9000 (2 folds) | 0.9100 (1 seed) |" in card
    assert "| trial-0001, the best of the search | " in card


def test_it_says_how_it_was_made_without_where_that_was(journal: SearchJournal) -> None:
    card = card_of(journal)
    assert "- search: tiny; the configuration is that of its trial-0001" in card
    assert "- method: smile `" in card
    assert "gamma_fe=0.05" in card
    assert "- pre-trained network: package/efficientnet_lite0" in card
    assert "- data: imagefolder, folder `photos`, 480 training examples `" in card
    assert "torch=2.9" in card
    assert "/home" not in card
    assert "squashed to a square of 37 px, of which the centre of 32 px is read" in card


def test_it_says_what_was_not_tested(journal: SearchJournal) -> None:
    card = card_of(journal)
    assert "it names one of its classes for anything" in card
    assert "Its probabilities were not calibrated" in card
    assert "licence of their own" in card
    calibrated = card_of(journal, temperature=1.5, unlike_threshold=0.4321)
    assert "below 0.4321, which is also so for about 5% of what it knows" in calibrated
    assert "were fitted on validation data (temperature 1.5)" in calibrated
