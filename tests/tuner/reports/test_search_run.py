"""A search read back from its directory."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.tuner.reports.searches import alternatives, fold, params_of, write_search
from tests.tuner.tiny import search_started, space_of
from trainables.errors import BadInput
from tuner.experiment.search_experiment import MAX_NAME_CHARACTERS, dump_experiment, load_experiment
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment
from tuner.record.events import ComparisonStarted, FoldFinished, SearchEnded
from tuner.record.journal import open_comparison_journal, open_search_journal
from tuner.record.lines import encode
from tuner.record.lock import locked
from tuner.reports.search_run import best_space, best_yaml, read_run


def test_a_search_is_read_back(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run", environment=Environment(tracking_uri="sqlite:////x/mlflow.db")))
    assert run.space.as_tree() == space_of().as_tree()
    assert run.best is not None
    assert (run.best.number, run.best.params) == (1, params_of(1))
    assert list(run.dimensions) == ["method.gamma_fe", "method.alpha"]
    assert list(run.names.values()) == ["gamma_fe", "alpha"]
    assert run.result.tracking_uri == "sqlite:////x/mlflow.db"
    assert run.result.trial_counts == {"running": 0, "complete": 2, "pruned": 1, "failed": 1}


def test_a_search_that_goes_on_may_ask_for_more(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run")
    with closing(open_search_journal(directory)) as journal:
        journal.append(search_started(space_of(search__trials=9)))
    assert read_run(directory).space.search.trials == 9


def test_pauses_between_commands_are_no_time_of_the_search(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with closing(open_search_journal(directory)) as journal:
        for start_s, end_s in ((100.0, 130.0), (1000.0, 1005.0)):
            journal.append(search_started(time_s=start_s))
            journal.append(SearchEnded(outcome="interrupted", why="interrupted", time_s=end_s))
    assert read_run(directory).duration_s == 35.0


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


def test_the_best_configuration_runs_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"tracking__directory": str(tmp_path / "here"), "tracking__uri": "sqlite:////here/mlflow.db"}
    space = space_of(data__dataset="imagefolder", data__root="/here/photos", **here)
    text = best_yaml(read_run(write_search(tmp_path / "run", space=space)))
    assert text is not None
    assert "# The files of another machine are given by --set data.root=…\n" in text
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    (tmp_path / "there" / "best.yaml").write_text(text, encoding="utf-8")
    read_back = load_experiment(Path("best.yaml"), {"data.root": "/there/photos"})
    assert read_back.tracking.directory == tmp_path / "there" / "experiments"
    assert read_back.tracking.uri is None
    assert "/here/" not in dump_experiment(read_back)


def test_what_needs_no_files_says_nothing_of_them(tmp_path: Path) -> None:
    text = best_yaml(read_run(write_search(tmp_path / "run")))
    assert text is not None
    assert "--set" not in text
    assert best_yaml(read_run(write_search(tmp_path / "none", [("pruned", (0.5,), "hopeless")]))) is None


def test_a_long_name_leaves_room_for_best(tmp_path: Path) -> None:
    alone = best_space(read_run(write_search(tmp_path / "run", space=space_of(name="n" * MAX_NAME_CHARACTERS))))
    assert alone is not None
    assert len(alone.name) == MAX_NAME_CHARACTERS
    assert alone.name.endswith("n-best")


def test_without_a_complete_trial_there_is_no_best(tmp_path: Path) -> None:
    assert best_space(read_run(write_search(tmp_path / "run", [("pruned", (0.5,), "hopeless")]))) is None


def test_what_is_no_search_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with closing(open_comparison_journal(directory)) as journal:
        journal.append(ComparisonStarted(name="tiny", run="run", space={}))
    with pytest.raises(BadInput, match=r"expected the directory of a search, .* comparison\.html"):
        read_run(directory)
    directory.journal.write_text("")
    with pytest.raises(BadInput, match="empty journal"):
        read_run(directory)
    directory.journal.write_text("no JSON\n")
    with pytest.raises(BadInput, match="expected a journal of format 1"):
        read_run(directory)


def test_an_event_of_a_trial_that_never_started_is_refused(tmp_path: Path) -> None:
    directory = write_search(tmp_path / "run", [])
    with directory.journal.open("ab") as file:
        file.write(encode(FoldFinished(trial=7, result=fold(1, 0.5))))
    with pytest.raises(BadInput, match="expected an event of a trial that has started, got 'fold_finished' of trial 7"):
        read_run(directory)


def test_the_best_of_alternatives_runs_alone(tmp_path: Path) -> None:
    space, points, trials = alternatives(12)
    run = read_run(write_search(tmp_path / "run", trials, space, points=points))
    alone, best = best_space(run), run.best
    assert alone is not None
    assert best is not None
    (tmp_path / "best.yaml").write_text(dump_experiment(alone), encoding="utf-8")
    read_back = load_experiment(tmp_path / "best.yaml")
    assert (read_back.dimensions, read_back.branches.alternatives) == ({}, {})
    assert read_back.trial_config({}) == run.space.trial_config(best.params)
