from __future__ import annotations

import calendar
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tuner.tiny import space_of
from trainables.errors import BadInput
from tuner.experiment.search_experiment import SearchExperiment, load_experiment
from tuner.record.create import check_same_trials, latest_run, new_run, write_record
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


def space_in(root: Path, **changes: Any) -> SearchExperiment:
    return space_of(tracking__directory=str(root), **changes)


def begun(space: SearchExperiment) -> RunDirectory:
    directory = new_run(space)
    directory.journal.touch()
    return directory


def test_a_run_has_a_folder_with_its_space_and_environment(root: Path) -> None:
    space = space_in(root)
    directory = new_run(space)
    assert directory.path.parent == root / "tiny"
    assert load_experiment(directory.space).as_tree() == space.as_tree()
    kept = Environment.read(directory)
    assert {"ray", "optuna", "mlflow", "torch"} <= kept.packages.keys()
    assert kept.command


@pytest.mark.parametrize(
    ("spec", "typed"),
    [
        (SimpleNamespace(name="tuner.search"), "python -m tuner.search"),
        (SimpleNamespace(name="tuner.__main__"), "python -m tuner"),
        (None, "'/my tools/search.py'"),
    ],
)
def test_the_command_that_is_recorded_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, spec: SimpleNamespace | None, typed: str
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", ["/my tools/search.py", "--set", "data.root=/my photos"])
    assert Environment.here("").command == f"{typed} --set 'data.root=/my photos'"


def test_runs_that_start_in_one_second_have_names_of_their_own(root: Path, tmp_path: Path) -> None:
    """Also those in different folders: in MLflow they meet."""
    roots = [root, root, root, tmp_path / "of another user"]
    assert len({new_run(space_in(root)).run for root in roots}) == len(roots)


def test_a_name_that_is_taken_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("tuner.record.create.secrets.token_hex", lambda _: next(drawn))
    monkeypatch.setattr("tuner.record.create.time.strftime", lambda *_: "20260101-000000")
    assert [new_run(space_in(root)).run for _ in range(2)] == ["20260101-000000-aaaa", "20260101-000000-bbbb"]


@pytest.mark.parametrize("zone", ["Etc/GMT-14", "Etc/GMT+12"])
def test_a_run_is_named_by_the_time_in_utc(zone: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`GMT-14` is fourteen hours ahead of it."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", zone)
        time.tzset()
        name = new_run(space_in(root)).run
    time.tzset()
    named_s = calendar.timegm(time.strptime(name[:15], "%Y%m%d-%H%M%S"))
    assert abs(named_s - time.time()) < 600


def test_the_record_says_where_it_is_tracked_but_no_password(root: Path) -> None:
    directory = new_run(space_in(root, tracking__uri="http://robot:hunter2@host:5000"))
    assert Environment.read(directory).tracking_uri == "http://host:5000"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        BadInput, match=r"tracking\.directory: expected a folder that can be written, got .*not a directory"
    ):
        new_run(space_in(tmp_path / "file"))


def test_a_record_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"tracking\.directory: .*no such file or directory"):
        write_record(space_of(), RunDirectory(tmp_path / "none"))


class TestLatestRun:
    def test_is_the_newest_that_has_begun(self, root: Path) -> None:
        space = space_in(root)
        runs = [begun(space) for _ in range(3)]
        new_run(space)
        assert latest_run(space) == max(runs, key=lambda run: run.run)

    def test_there_must_be_one_of_that_name(self, root: Path) -> None:
        begun(space_in(root))
        with pytest.raises(BadInput, match=r"--resume: expected an earlier run of 'other' in .*got none"):
            latest_run(space_in(root, name="other"))

    @pytest.mark.parametrize(
        "changes",
        [
            {"search__trials": 20},
            {"search__concurrency": 1},
            {"search__minutes": 30, "search__trials": None},
            {"retrain__seeds": 1},
            {"resources__cpus": 2},
            {"tracking__uri": "sqlite:///other.db"},
            {"tracking__mirror": "s3://bucket/prefix"},
        ],
    )
    def test_goes_on_with_other_means(self, root: Path, changes: dict[str, Any]) -> None:
        run = begun(space_in(root))
        space = space_in(root, **changes)
        assert latest_run(space) == run
        check_same_trials(space, run)

    @pytest.mark.parametrize(
        ("changes", "where"),
        [
            ({"training__num_steps": 5}, "training.num_steps"),
            ({"data__size_px": 64}, "data.size_px"),
            ({"search__folds": 3}, "search.folds"),
            ({"search__repeats": 2}, "search.repeats"),
            ({"search__seed": 1}, "search.seed"),
            ({"search__sampler": "random"}, "search.sampler"),
            ({"search__first_points": [{"alpha": 0.2}]}, "search.first_points"),
            ({"method__alpha": {"uniform": [0.1, 0.5]}}, "method.alpha.uniform"),
            ({"method__alpha": 0.3}, "method.alpha"),
        ],
    )
    def test_refuses_what_would_make_trials_incomparable(self, root: Path, changes: dict[str, Any], where: str) -> None:
        run = begun(space_in(root))
        with pytest.raises(BadInput) as bad:
            check_same_trials(space_in(root, **changes), run)
        problem = next(problem for problem in bad.value.problems if problem.where == where)
        assert "its value when the search was started" in problem.expected
        assert problem.file == "tiny.yaml"
