"""What one search can teach another, whose ranges, settings or place have changed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.tiny import add_trial, fold, search_journal, search_started, space_of, write_photos
from trainables.errors import BadInput
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record.create import new_run
from tuner.record.data_record import keep_inventories
from tuner.record.directory import RunDirectory
from tuner.record.events import TrialEnded, WarmStarted
from tuner.record.journal import open_search_journal
from tuner.scheduling.scheduler import TrialScheduler
from tuner.scheduling.warm_start import apply_warm_start, collect_warm_start

POINTS = [{"method.gamma_fe": 0.02, "method.alpha": alpha} for alpha in (0.2, 0.4, 0.6, 0.8)]
ENDS: dict[int, tuple[Any, list[float]]] = {
    0: ("complete", [0.5, 0.6]),
    1: ("complete", [0.8, 0.9]),
    2: ("pruned", [0.1]),
    3: ("failed", []),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


def searched(
    root: Path, name: str = "earlier", left_open: bool = False, metrics: Sequence[str] = (), **changes: Any
) -> RunDirectory:
    """A search that is over: two complete trials, one that was stopped, one that failed, perhaps one left open.

    Each of `metrics` has the value of top-1.
    """
    space = space_of(name=name, tracking__directory=str(root), search__first_points=POINTS, **changes)
    directory = new_run(space)
    journal = open_search_journal(directory)
    journal.append(search_started(space, directory.run))
    scheduler = TrialScheduler(space, journal)
    for number, (state, scores) in ENDS.items():
        scheduler.next_assignment()
        for k, score in enumerate(scores, start=1):
            scheduler.fold_finished(number, replace(fold(k, score), metrics=dict.fromkeys(metrics, score)))
        if state != "complete":
            journal.append(TrialEnded(trial=number, state=state, reason="so it was"))
    if left_open:
        scheduler.next_assignment()
    journal.close()
    return directory


def later(root: Path, *runs: str, **changes: Any) -> SearchExperiment:
    return space_of(name="later", tracking__directory=str(root), search__warm_start=list(runs), **changes)


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"search__repeats": 2}, "search.repeats"),
        ({"search__folds": 3}, "search.folds"),
        ({"search__keep": "best"}, "search.keep"),
    ],
)
def test_other_folds_or_repeats_are_not_comparable(root: Path, changes: Any, differing: str) -> None:
    searched(root)
    found = collect_warm_start(later(root, "earlier", **changes))
    assert found.trials == ()
    assert f"not comparable (different: {differing})" in found.notes[0]


@pytest.mark.parametrize(("earlier", "now", "comparable"), [("auto", "bf16", True), ("fp32", "bf16", False)])
def test_a_precision_that_the_hardware_decides_is_no_difference(
    root: Path, earlier: str, now: str, comparable: bool
) -> None:
    """As before the first trial, or in a record that does not say it."""
    searched(root, training__precision=earlier)
    found = collect_warm_start(later(root, "earlier", training__precision=now))
    assert bool(found.trials) is comparable
    assert bool(collect_warm_start(later(root, "earlier")).trials)


def test_as_many_folds_of_another_dealing_are_not_comparable(root: Path) -> None:
    space = space_of(name="two-deals", tracking__directory=str(root), search__repeats=2)
    directory = new_run(space)
    journal = open_search_journal(directory)
    journal.append(search_started(space, directory.run))
    add_trial(journal, 0, [0.5, 0.6, 0.7, 0.8])
    journal.close()
    assert len(collect_warm_start(later(root, "two-deals", search__repeats=2)).trials) == 1
    assert collect_warm_start(later(root, "two-deals", search__folds=4)).trials == ()


def test_trials_of_another_objective_count_by_the_metric_of_this_search(root: Path) -> None:
    searched(root, metrics=("top1", "macro_f1", "log_loss"))
    found = collect_warm_start(later(root, "earlier", search__objective="log_loss"))
    assert len(found.trials) == 4
    assert [fold.metrics["log_loss"] for fold in found.trials[1].folds] == [0.8, 0.9]
    searched(root, "of-losses", metrics=("top1", "log_loss"), search__objective="log_loss")
    assert len(collect_warm_start(later(root, "of-losses")).trials) == 4


def test_of_a_record_without_that_metric_only_the_points_count(root: Path) -> None:
    searched(root)
    found = collect_warm_start(later(root, "earlier", search__objective="log_loss"))
    assert found.trials == ()
    assert found.first_points == (POINTS[1], POINTS[0])
    assert "its scores are not comparable (different: search.objective)" in found.notes[0]


def taken(found: WarmStarted) -> dict[float, str]:
    """alpha → state."""
    return {trial.params["method.alpha"]: trial.state for trial in found.trials}


def test_the_same_experiment_takes_every_trial_as_it_ended(root: Path) -> None:
    run = searched(root, left_open=True)
    found = collect_warm_start(later(root, "earlier"))
    assert taken(found) == {0.2: "complete", 0.4: "complete", 0.6: "pruned", 0.8: "failed"}
    assert [trial.params for trial in found.trials] == POINTS
    assert [fold.val_top1 for fold in found.trials[1].folds] == [0.8, 0.9]
    assert found.trials[1].origin == f"earlier/{run.run} trial-0001"
    assert found.first_points == ()
    assert found.notes == (f"warm start from earlier/{run.run}: 4 of 5 trials taken; left out: 1 unfinished",)


def test_a_run_is_named_in_three_ways(root: Path) -> None:
    run = searched(root)
    assert all(
        len(collect_warm_start(later(root, name)).trials) == 4 for name in ("earlier", f"earlier/{run.run}", str(run))
    )


def test_of_several_runs_the_latest_is_meant_and_never_the_one_that_asks(root: Path) -> None:
    searched(root)
    last = searched(root)
    assert last.run in collect_warm_start(later(root, "earlier")).notes[0]
    assert last.run not in collect_warm_start(later(root, "earlier"), excluding=last).notes[0]
    assert last.run not in collect_warm_start(later(root, "earlier"), excluding=last.row_search(0)).notes[0]


def test_several_searches_add_up(root: Path) -> None:
    searched(root, "one")
    searched(root, "two")
    found = collect_warm_start(later(root, "one", "two"))
    assert (len(found.trials), len(found.notes)) == (8, 2)


class TestWhatHasChanged:
    def test_a_smaller_range_leaves_out_what_lies_outside(self, root: Path) -> None:
        searched(root)
        found = collect_warm_start(later(root, "earlier", method__alpha={"uniform": [0.1, 0.5]}))
        assert taken(found) == {0.2: "complete", 0.4: "complete"}
        assert found.notes[0].endswith("2 of 4 trials taken; left out: 2 outside the range of alpha")

    def test_a_larger_range_and_another_scale_take_all(self, root: Path) -> None:
        searched(root)
        assert len(collect_warm_start(later(root, "earlier", method__alpha={"log_uniform": [0.01, 5.0]})).trials) == 4

    def test_a_new_dimension_stands_at_what_was_fixed(self, root: Path) -> None:
        searched(root)
        found = collect_warm_start(later(root, "earlier", training__learning_rate={"log_uniform": [0.001, 0.1]}))
        assert [trial.params["training.learning_rate"] for trial in found.trials] == [0.01] * 4

    def test_a_new_dimension_whose_range_lacks_what_was_fixed_takes_none(self, root: Path) -> None:
        searched(root)
        found = collect_warm_start(later(root, "earlier", training__learning_rate={"log_uniform": [0.02, 0.1]}))
        assert (found.trials, found.first_points) == ((), ())
        assert "4 outside the range of learning_rate" in found.notes[0]

    def test_a_dimension_that_is_now_fixed_takes_the_trials_at_its_value(self, root: Path) -> None:
        searched(root)
        found = collect_warm_start(later(root, "earlier", method__alpha=0.4))
        assert [trial.params for trial in found.trials] == [{"method.gamma_fe": 0.02}]
        assert found.notes[0].endswith("left out: 3 different in method.alpha")

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"training__num_steps": 3}, "training.num_steps"),
            ({"data__train_images": 40}, "data.train_images"),
            ({"search__folds": 3}, "search.folds"),
            ({"search__seed": 1}, "seed"),
        ],
    )
    def test_scores_of_something_else_are_no_evidence_but_the_best_is_tried_first(
        self, root: Path, changes: dict[str, Any], named: str
    ) -> None:
        searched(root)
        found = collect_warm_start(later(root, "earlier", **changes))
        assert found.trials == ()
        assert found.first_points == (POINTS[1], POINTS[0])  # complete ones alone, the best before the others
        assert f"not comparable (different: {named}); tried first: trial-0001, trial-0000" in found.notes[0]

    def test_and_only_within_the_ranges(self, root: Path) -> None:
        searched(root)
        changes = {"training__num_steps": 3, "method__alpha": {"uniform": [0.1, 0.3]}}
        assert collect_warm_start(later(root, "earlier", **changes)).first_points == (POINTS[0],)
        changes["method__alpha"] = {"uniform": [0.9, 1.0]}
        found = collect_warm_start(later(root, "earlier", **changes))
        assert (found.trials, found.first_points) == ((), ())
        assert found.notes[0].endswith("tried first: none, as none is within the ranges")

    def test_of_another_method_what_both_have_is_tried(self, root: Path) -> None:
        searched(root)
        mixup = {"name": "mixup", "alpha": {"uniform": [0.1, 1.0]}}
        space = later(root, "earlier", method=mixup, training__learning_rate={"log_uniform": [0.001, 0.1]})
        assert collect_warm_start(space).first_points == tuple(
            {"method.alpha": a, "training.learning_rate": 0.01} for a in (0.4, 0.2)
        )

    def test_how_data_is_fetched_changes_no_score(self, root: Path) -> None:
        searched(root)
        assert len(collect_warm_start(later(root, "earlier", data__check_counts=False)).trials) == 4


class TestTakingUp:
    def test_the_journal_then_needs_the_earlier_search_no_more(self, root: Path, tmp_path: Path) -> None:
        run = searched(root)
        space, journal = later(root, "earlier"), search_journal(tmp_path / "run")
        assert len(apply_warm_start(space, journal)) == 1
        proposed = TrialScheduler(space, journal).sampler.propose()
        for file in run.path.iterdir():
            file.unlink()
        again = open_search_journal(journal.directory)
        assert apply_warm_start(space, again) == ()
        assert TrialScheduler(space, again).sampler.propose() == proposed
        assert proposed.number == 0

    def test_earlier_trials_count_for_nothing_else(self, root: Path, tmp_path: Path) -> None:
        searched(root)
        space, journal = later(root, "earlier", search__trials=2), search_journal(tmp_path / "run")
        apply_warm_start(space, journal)
        scheduler = TrialScheduler(space, journal)
        assert journal.history.trials == {}
        tried = []
        while (assignment := scheduler.next_assignment()) is not None:
            tried.append(journal.history.trials[assignment.number].params)
            for k in (1, 2):
                scheduler.fold_finished(assignment.number, fold(k, 0.1))
        assert len(tried) == 2
        assert not [params for params in tried if params in POINTS]

    def test_first_points_of_an_incomparable_search_come_first(self, root: Path, tmp_path: Path) -> None:
        searched(root)
        space, journal = later(root, "earlier", training__num_steps=3), search_journal(tmp_path / "run")
        apply_warm_start(space, journal)
        sampler = TrialScheduler(space, journal).sampler
        assert [sampler.propose().params for _ in range(2)] == [POINTS[1], POINTS[0]]

    def test_without_being_asked_for_nothing_is_written(self, tmp_path: Path) -> None:
        assert apply_warm_start(space_of(), search_journal(tmp_path)) == ()
        assert (tmp_path / "journal.jsonl").read_text() == ""


def test_what_is_not_to_be_found_is_said_of_each(root: Path) -> None:
    with pytest.raises(BadInput) as bad:
        collect_warm_start(later(root, "nowhere", "neither"))
    assert [problem.got for problem in bad.value.problems] == ["'nowhere'", "'neither'"]
    assert bad.value.problems[0].where == "search.warm_start"


def test_one_name_needs_no_list(root: Path) -> None:
    assert space_of(search__warm_start="earlier").search.warm_start == ("earlier",)


class TestData:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        write_photos(tmp_path / "photos", 40, train=4, test=2)
        return tmp_path / "photos"

    def of(self, photos: Path) -> dict[str, Any]:
        return {"data": {"dataset": "imagefolder", "root": str(photos), "size_px": 32}}

    def earlier(self, root: Path, photos: Path) -> None:
        directory = searched(root, **self.of(photos))
        keep_inventories(space_of(**self.of(photos)), directory)

    def test_the_same_photographs_at_another_place_are_comparable(self, root: Path, photos: Path) -> None:
        self.earlier(root, photos)
        moved = Path(shutil.move(photos, photos.with_name("moved")))
        found = collect_warm_start(later(root, "earlier", **self.of(moved)))
        assert len(found.trials) == 4

    def test_without_a_record_of_them_another_place_is_other_data(self, root: Path, photos: Path) -> None:
        searched(root, **self.of(photos))
        moved = Path(shutil.move(photos, photos.with_name("moved")))
        found = collect_warm_start(later(root, "earlier", **self.of(moved)))
        assert found.trials == ()
        assert "different: data.root" in found.notes[0]

    def test_of_changed_photographs_the_points_are_taken_without_scores(self, root: Path, photos: Path) -> None:
        self.earlier(root, photos)
        shutil.copy(photos / "train" / "apple" / "1.png", photos / "train" / "apple" / "9.png")
        found = collect_warm_start(later(root, "earlier", **self.of(photos)))
        assert found.trials == ()
        assert found.first_points == (POINTS[1], POINTS[0])
        assert "not comparable (different: the examples themselves)" in found.notes[0]

    def test_a_run_that_has_begun_asks_its_own_record(self, root: Path, photos: Path) -> None:
        self.earlier(root, photos)
        space = later(root, "earlier", **self.of(photos))
        own = new_run(space)
        keep_inventories(space, own)
        shutil.rmtree(photos)
        assert len(collect_warm_start(space, excluding=own).trials) == 4
