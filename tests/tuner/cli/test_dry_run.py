from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tests.tuner.tiny import METHODS, space_of, write_photos
from trainables.errors import BadInput
from tuner.cli import dry_run
from tuner.experiment.checks import check_experiment
from tuner.experiment.timing import StepTimes
from tuner.resources.share import Capacity


def printed(monkeypatch: pytest.MonkeyPatch, machine: Capacity, **changes: Any) -> str:
    monkeypatch.setattr(dry_run, "this_machine", lambda: machine)
    monkeypatch.setattr("ray.init", None)  # nothing is started
    screen = io.StringIO()
    space = space_of(**changes)
    dry_run.print_plan(Console(file=screen, width=80, highlight=False), space, check_experiment(space), None)
    return screen.getvalue()


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No step is trained: each takes a second. The arguments with which steps were timed."""
    asked: list[Any] = []

    def time_steps(*arguments: Any) -> StepTimes:
        asked.append(arguments)
        return StepTimes(setup_s=1.0, step_s=1.0, example_s=0.0)

    monkeypatch.setattr(dry_run, "time_steps", time_steps)
    return asked


def test_says_what_will_be_done_and_with_what(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch, Capacity(16, 2), resources={"cpus": 1, "gpus": 0.25})
    assert "data       30 training and 20 test images, 10 classes of 3 training images each\n" in said
    assert "6 trials × 2 folds × 2 steps (2 epochs) of 8 examples = 24 steps, tpe" in said
    assert "3 seeds × 2 steps" in said
    assert "1 CPU and 0.25 GPUs a trial; the cluster has 16 CPUs and 2 GPUs on 1 node: 8 trials at once" in said
    assert "log_uniform [0.01, 0.1]" in said
    assert "note" not in said


def test_says_what_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_photos(tmp_path, side_px=8, train=4, test=2)
    (tmp_path / "train" / "apple").rename(tmp_path / "train" / "apple[b]")
    (tmp_path / "test" / "apple").rename(tmp_path / "test" / "apple[b]")
    (tmp_path / "train" / "apple[b]" / "extra.png").write_bytes((tmp_path / "train/pear/0.png").read_bytes())
    (tmp_path / "test" / "pear" / "notes[i].txt").touch()
    said = printed(monkeypatch, Capacity(2, 0), data={"dataset": "imagefolder", "root": str(tmp_path), "size_px": 16})
    assert "2 classes of 4 ('pear') to 5 ('apple[b]') training images\n           files left out: 1 .txt\n" in said


def test_names_are_no_markup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_photos(tmp_path / "[red]:dog:", side_px=8, train=4, test=2)
    data = {"dataset": "imagefolder", "root": str(tmp_path / "[red]:dog:"), "size_px": 16}
    assert f"root: '{tmp_path}/[red]:dog:'\n" in printed(monkeypatch, Capacity(2, 0), data=data)
    screen, space = io.StringIO(), space_of()
    dry_run.print_plan(Console(file=screen), space, check_experiment(space), None, notes=["evidence of [/red] :dog:"])
    assert "evidence of [/red] :dog:\n" in screen.getvalue()


def test_says_what_may_end_it_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch, Capacity(2, 0))
    assert "racing     folds margin=1.25 min_complete=3" in said
    assert "budget" not in said
    budgets = {"search__timeout_s": 600, "search__max_fold_trainings": 9, "search__plateau": {"trials": 8}}
    said = printed(monkeypatch, Capacity(2, 0), **budgets, search__racing={"rule": "none"})
    assert "racing     none\n" in said
    assert "at most 600 s of wall-clock, or 9 fold trainings, or 8 trials without a gain above 0" in said


def test_says_how_long_it_takes(monkeypatch: pytest.MonkeyPatch, timed: list[Any]) -> None:
    both = ["linear_probe", "fine_tuning"]
    said = printed(monkeypatch, Capacity(2, 0), search__baselines=both, retrain__seeds=2).replace("\n", " ")
    # 15 s of the start, twice 5 s of workers; on two places one round of the baseline's 2 folds of 3 s, three of the
    # trials' 6 s, two of the 4 retrainings' 3 s; 10 s of the end
    assert 15 + 10 + 3 + 18 + 6 + 10 == 62
    work = "6 trials of 2 folds (3.0 s a fold) and 4 retrainings (3.0 s each)"
    assert f"minutes    about 1.0: baselines, {work}, 2 at once; fewer where racing stops trials" in said
    ((config, examples, num_folds),) = timed
    assert (config.method.gamma_fe, len(examples), num_folds) == (0.01, 30, 2)


def test_a_step_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_steps(*_: Any) -> StepTimes:
        raise RuntimeError("not enough memory: you tried to allocate 9 GB")

    monkeypatch.setattr(dry_run, "time_steps", time_steps)
    said = printed(monkeypatch, Capacity(2, 0))
    assert "minutes    unknown, as a step of the first configuration failed: RuntimeError: not enough memory" in said


def test_very_unequal_classes_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, space = io.StringIO(), space_of()
    plan = check_experiment(space)
    data = replace(plan.data, train_per_class=(20, *plan.data.train_per_class[1:]))
    dry_run.print_plan(Console(file=screen, width=80, highlight=False), space, replace(plan, data=data), None)
    said = screen.getvalue()
    assert "10 classes of 3 ('1') to 20 ('0') training images\n" in said
    assert "\n           the classes are very unequal: search.objective" in said


def test_times_a_few_steps_where_minutes_are_given(monkeypatch: pytest.MonkeyPatch, timed: list[Any]) -> None:
    minutes = {"search__minutes": 2, "search__trials": None, "retrain__seeds": 2}
    said = printed(monkeypatch, Capacity(2, 0), **minutes).replace("\n", " ")
    assert "trials × 2 folds × 2 steps (2 epochs) of 8 examples, tpe" in said
    assert "at most 2 minutes of wall-clock, with the retraining" in said
    # 120 s without 15 s of the start, twice 5 s of workers, one round of 3 s and 10 s of the end, on two places
    assert "minutes    2 minutes: about 26 trials of 2 folds (3.0 s a fold) and 2 retrainings (3.0 s each)" in said
    ((config, examples, num_folds),) = timed
    assert (config.method.gamma_fe, len(examples), num_folds) == (0.01, 30, 2)


def test_too_few_minutes_are_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        BadInput, match=r"tiny.yaml: search.minutes: expected at least 0.7 minutes for 1 trial of 2 folds"
    ):
        printed(monkeypatch, Capacity(2, 0), search__minutes=0.5, retrain__seeds=2)


def test_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch, Capacity(2, 0), resources={"cpus": 1, "gpus": 0.25})
    assert "2 trials at once" in said
    assert "note       resources.gpus is 0.25, but there is no GPU" in said


def test_a_share_that_is_auto_is_measured_later(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch, Capacity(16, 2), resources={"cpus": 1, "gpus": "auto"})
    assert "1 CPU a trial, GPUs auto: measured when it starts; the cluster has 16 CPUs and 2 GPUs" in said
    assert "at least 2 trials at once" in said


def test_a_trial_that_does_not_fit_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="resources: expected a trial that fits on a node"):
        printed(monkeypatch, Capacity(2, 0), resources={"cpus": 4})


def test_what_it_prints_of_the_experiment_is_an_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [{"gamma_fe": 0.02, "alpha": 0.123456789}]
    said = printed(monkeypatch, Capacity(2, 0), tracking__uri="sqlite:///" + "long/" * 30, search__first_points=points)
    text = said[said.index("name: tiny") : said.index("dimensions")]
    assert (
        yaml.safe_load(text)
        == space_of(tracking__uri="sqlite:///" + "long/" * 30, search__first_points=points).as_tree()
    )


def test_its_process_imports_no_service(tmp_path: Path) -> None:
    code = """
import sys
from tuner.search import main

assert main(["--space", "smile", "--dry-run"]) == 0
heavy = {"ray", "mlflow", "sqlalchemy", "optuna", "plotly", "pandas", "sklearn", "scipy"} & sys.modules.keys()
assert not heavy, heavy
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)


def test_dimensions_of_alternatives_say_when_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch, Capacity(2, 0), method=METHODS)
    rows = [re.split("  +", line.strip()) for line in said[said.rindex("dimensions") :].splitlines()[1:6]]
    assert rows == [
        ["name", "leaf", "range", "if"],
        ["method", "method", "choice [l2, mixup, smile]"],
        ["method.mixup.alpha", "method.alpha", "log_uniform [0.1, 1.0]", "method = mixup"],
        ["gamma_fe", "method.gamma_fe", "log_uniform [0.01, 0.1]", "method = smile"],
        ["method.smile.alpha", "method.alpha", "uniform [0.1, 0.5]", "method = smile"],
    ]
