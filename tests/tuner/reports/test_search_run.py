"""A report stands on what the disk says, and on nothing else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.tuner.reports.searches import params_of, write_search
from tests.tuner.tiny import space_of
from trainables.errors import BadInput
from tuner.experiment.search_experiment import MAX_NAME_CHARACTERS, dump_experiment, load_experiment
from tuner.record.journal import Journal
from tuner.record.lock import locked
from tuner.reports.search_run import best_space, read_run


def test_a_search_is_read_back(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run", environment={"tracking_uri": "sqlite:////x/mlflow.db"}))
    assert run.space.as_tree() == space_of().as_tree()
    assert run.best is not None
    assert (run.best.number, run.best.params) == (1, params_of(1))
    assert list(run.dimensions) == ["gamma_fe", "alpha"]
    assert run.outcome.tracking_uri == "sqlite:////x/mlflow.db"
    assert run.outcome.trials == {"running": 0, "complete": 2, "pruned": 1, "failed": 1}


def test_a_search_that_goes_on_may_ask_for_more(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run")
    with closing(Journal(directory)) as journal:
        more = space_of(search__trials=9)
        journal.append("search_started", name=more.name, run="run", **more.described())
    assert read_run(directory).space.search.trials == 9


def test_pauses_between_commands_are_no_time_of_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 130.0, 1000.0, 1005.0])
    monkeypatch.setattr("tuner.record.journal.time.time", lambda: next(times))
    described = space_of().described()
    with closing(Journal(tmp_path)) as journal:
        for _ in range(2):
            journal.append("search_started", name="tiny", run="run", **described)
            journal.append("search_finished", why="interrupted")
    assert read_run(tmp_path).seconds == 35.0


def test_a_search_runs_while_a_process_has_its_directory_and_it_has_not_ended(tmp_path: Path) -> None:
    unfinished = write_search(tmp_path / "unfinished", why=None)
    finished = write_search(tmp_path / "finished")
    assert not read_run(unfinished).is_running
    with closing(locked(unfinished)), closing(locked(finished)):
        assert read_run(unfinished).is_running
        assert not read_run(finished).is_running


def test_the_best_configuration_runs_as_it_is(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run", space=space_of(search__seed=3, tracking__registered_model="mine")))
    alone = best_space(run)
    assert alone is not None
    file = tmp_path / "best.yaml"
    file.write_text(dump_experiment(alone), encoding="utf-8")
    read_back = load_experiment(file)
    assert run.best is not None
    assert read_back.trial_config({}) == run.space.trial_config(run.best.params)
    assert read_back.dimensions == {}
    assert (read_back.name, read_back.model_name) == ("tiny-best", "tiny-best")  # the search keeps its place and model
    assert (read_back.search.trials, read_back.search.folds) == (1, 2)


def test_a_long_name_leaves_room_for_best(tmp_path: Path) -> None:
    alone = best_space(read_run(write_search(tmp_path / "run", space=space_of(name="n" * MAX_NAME_CHARACTERS))))
    assert alone is not None
    assert len(alone.name) == MAX_NAME_CHARACTERS
    assert alone.name.endswith("n-best")


def test_without_a_complete_trial_there_is_no_best(tmp_path: Path) -> None:
    assert best_space(read_run(write_search(tmp_path / "run", [("pruned", (0.5,), "hopeless")]))) is None


def test_what_is_no_search_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"event": "comparison_started", "time_s": 1.0, "space": {}}\n')
    with pytest.raises(BadInput, match=r"comparison\.html"):
        read_run(tmp_path)
    (tmp_path / "journal.jsonl").write_text("")
    with pytest.raises(BadInput, match="empty journal"):
        read_run(tmp_path)
    (tmp_path / "journal.jsonl").write_text("no JSON\n")
    with pytest.raises(BadInput, match="cannot be read"):
        read_run(tmp_path)
