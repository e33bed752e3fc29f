"""What a search teaches another whose method, or whose alternatives, are others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.scheduling.test_warm_start import later, searched
from tests.tuner.tiny import METHODS, fold, search_started, space_of
from tuner.record.create import new_run
from tuner.record.directory import RunDirectory
from tuner.record.journal import open_search_journal
from tuner.scheduling.scheduler import TrialScheduler
from tuner.scheduling.warm_start import collect_warm_start

SMILE: dict[str, Any] = {"name": "smile", "gamma_fe": {"log_uniform": [0.01, 0.1]}, "alpha": {"uniform": [0.1, 0.9]}}
POINTS = [
    {"method": "l2"},
    {"method": "mixup", "alpha": 0.2},
    {"method": "smile", "alpha": 0.3, "gamma_fe": 0.02},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


def searched_alternatives(root: Path, name: str = "branches", **changes: Any) -> RunDirectory:
    """A search over three methods that has tried each once; the third is the best."""
    settings = {"search__first_points": POINTS, "search__trials": 3, "search__racing": {"rule": "none"}}
    space = space_of(**{"name": name, "tracking__directory": str(root), "method": METHODS, **settings, **changes})
    directory = new_run(space)
    journal = open_search_journal(directory)
    journal.append(search_started(space, directory.run))
    scheduler = TrialScheduler(space, journal)
    while (assignment := scheduler.next_assignment()) is not None:
        for k in assignment.folds:
            scheduler.fold_finished(assignment.number, fold(k, 0.5 + 0.1 * assignment.number))
    journal.close()
    return directory


def test_the_same_alternatives_take_every_trial(root: Path) -> None:
    searched_alternatives(root)
    found = collect_warm_start(later(root, "branches", method=METHODS))
    assert [trial.params for trial in found.trials] == [
        {"method": "l2"},
        {"method": "mixup", "method.mixup.alpha": 0.2},
        {"method": "smile", "method.smile.gamma_fe": 0.02, "method.smile.alpha": 0.3},
    ]


def test_a_search_of_one_method_teaches_the_alternative_that_has_it(root: Path) -> None:
    searched(root)  # of SMILE, at gamma_fc = 0.1
    methods = {"choice": [{"name": "l2"}, {**SMILE, "alpha": {"uniform": [0.1, 0.5]}}]}
    found = collect_warm_start(later(root, "earlier", method=methods))
    assert [trial.params for trial in found.trials] == [
        {"method": "smile", "method.smile.gamma_fe": 0.02, "method.smile.alpha": alpha} for alpha in (0.2, 0.4)
    ]
    assert found.notes[0].endswith("2 of 4 trials taken; left out: 2 outside the range of alpha")


def test_a_search_of_alternatives_teaches_one_of_a_single_method(root: Path) -> None:
    searched_alternatives(root)
    found = collect_warm_start(later(root, "branches", method={**SMILE, "gamma_fc": 0.05}))
    assert [trial.params for trial in found.trials] == [{"method.gamma_fe": 0.02, "method.alpha": 0.3}]
    assert "1 of 3 trials taken; left out: 1 different in method." in found.notes[0]


def test_labels_may_change(root: Path) -> None:
    searched_alternatives(root)
    methods = {"choice": [{"label": "plain", "name": "l2"}, {"label": "mixed", **METHODS["choice"][1]}]}
    found = collect_warm_start(later(root, "branches", method=methods))
    assert [trial.params for trial in found.trials] == [
        {"method": "plain"},
        {"method": "mixed", "method.mixed.alpha": 0.2},
    ]


def test_alternatives_that_fix_the_same_are_told_apart_by_their_ranges(root: Path) -> None:
    searched_alternatives(root, method={"name": "mixup", "alpha": {"uniform": [0.1, 0.9]}}, search__first_points=[])
    low, high = (
        {"label": label, "alpha": {"uniform": ends}} for label, ends in (("low", [0.1, 0.4]), ("high", [0.4, 0.9]))
    )
    found = collect_warm_start(later(root, "branches", method={"name": "mixup", "choice": [low, high]}))
    assert len(found.trials) == 3
    for trial in found.trials:
        label = str(trial.params["method"])
        assert (trial.params[f"method.{label}.alpha"] > 0.4) == (label == "high")


def test_scores_of_something_else_are_no_evidence_but_their_alternative_is_tried(root: Path) -> None:
    searched_alternatives(root)
    found = collect_warm_start(later(root, "branches", method=METHODS, training__num_steps=3))
    assert found.trials == ()
    assert found.first_points[0] == {"method": "smile", "method.smile.gamma_fe": 0.02, "method.smile.alpha": 0.3}


def test_no_alternative_is_tried_for_a_method_that_none_of_them_is(root: Path) -> None:
    searched_alternatives(root, method={"name": "bss", "eta": {"uniform": [0.001, 0.002]}}, search__first_points=[])
    methods = {"choice": [{"name": "l2"}, {"name": "mixup", "alpha": {"uniform": [0.1, 0.3]}}]}
    learning_rate = {"log_uniform": [0.001, 0.1]}
    space = later(root, "branches", method=methods, training__learning_rate=learning_rate)
    found = collect_warm_start(space)
    assert found.trials == ()
    assert {tuple(point) for point in found.first_points} <= {("training.learning_rate",)}
