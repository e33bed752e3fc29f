"""The first screen of the report."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.tuner.reports.evaluated import NUM_TEST, write_evaluated
from tests.tuner.reports.searches import fold, write_search
from tests.tuner.tiny import baseline_events, space_of
from trainables.results import FoldResult, RetrainResult, TrainingFacts
from tuner.experiment.precision import Precisions
from tuner.record.environment import Environment
from tuner.record.events import HardwareInspected, ModelRegistered, RetrainingFinished
from tuner.record.journal import open_search_journal
from tuner.record.lock import locked
from tuner.reports.evaluation import model_evaluation
from tuner.reports.overview import device_of, facts_of, model_sentence, next_steps, tiles_of
from tuner.reports.search_run import SearchRun, read_run

STORE = "sqlite:////runs/mlflow.db"
MODEL = ModelRegistered(trial=1, uri="models:/tiny/3", seed=0, test_top1=0.75)


def run_of(folder: Path, **changes: Any) -> SearchRun:
    environment = changes.pop("environment", Environment(tracking_uri=STORE, cpus=2))
    return read_run(write_search(folder / "run", environment=environment, **changes))


def test_the_first_number_is_the_test_score_with_its_interval(tmp_path: Path) -> None:
    directory, history = write_evaluated(tmp_path)
    model = model_evaluation(directory, history)
    assert model is not None
    assert model.test is not None
    first, validation, *_ = tiles_of(read_run(directory), model)
    top1 = model.test.metrics["top1"]
    assert (first.title, first.value) == ("Test top-1 of the model", f"{top1.value:.4f}")
    assert first.note == f"95 %: {top1.low:.4f} to {top1.high:.4f}, by {NUM_TEST} test examples"
    assert validation.title == "Validation top-1"


def test_without_predictions_it_is_the_mean_over_the_retrainings(tmp_path: Path) -> None:
    retrained = [
        RetrainingFinished(trial=1, result=RetrainResult(seed, score, 1.0, [], {}))
        for seed, score in enumerate((0.5, 0.7))
    ]
    directory = write_search(tmp_path / "run", why=None)
    with closing(open_search_journal(directory)) as journal:
        for event in retrained:
            journal.append(event)
    first, *_ = tiles_of(read_run(directory), None)
    assert (first.title, first.value, first.note) == ("Test top-1 of trial-0001", "0.6000", "± 0.1414 over 2 seeds")


def test_a_search_without_a_test_begins_with_validation(tmp_path: Path) -> None:
    titles = [tile.title for tile in tiles_of(run_of(tmp_path), None)]
    assert titles == ["Validation top-1", "Trials", "Time"]


def test_the_model_comes_first_among_the_next_commands(tmp_path: Path) -> None:
    run = run_of(tmp_path, baselines=[MODEL])
    steps = {step.purpose: step.line for step in next_steps(run)}
    model = f"--model models:/tiny/3 --tracking-uri {STORE}"
    assert list(steps.values()) == [
        f"python -m tuner.predict {model} photo.jpg",
        f"python -m tuner.try {model}",
        f"python -m tuner.search --resume {run.directory} --trials 12",
        f"python -m tuner.ui --tracking-uri {STORE}",
        f"python -m tuner.report {run.directory}",
    ]
    assert model_sentence(run) == "The model is trial-0001, trained on the whole training split with seed 0."
    assert model_sentence(run_of(tmp_path / "none")) == ""


def test_a_search_by_minutes_goes_on_for_as_many(tmp_path: Path) -> None:
    run = run_of(tmp_path, space=space_of(search__trials=None, search__minutes=5))
    steps = {step.purpose: step.line for step in next_steps(run)}
    assert steps["Go on with it, for 5 more minutes"] == f"python -m tuner.search --resume {run.directory}"


def test_a_server_is_an_address_and_a_running_search_is_followed(tmp_path: Path) -> None:
    run = run_of(tmp_path, environment=Environment(tracking_uri="http://host:5000"), why=None)
    with closing(locked(run.directory)):
        steps = {step.purpose: step.line for step in next_steps(read_run(run.directory))}
    assert steps["Look at it in MLflow"] == "http://host:5000"
    assert steps["Follow it in a browser"] == f"python -m tuner.report {run.directory} --serve"
    assert not any("--resume" in line for line in steps.values())


def test_what_it_ran_on_is_said(tmp_path: Path) -> None:
    assert device_of(run_of(tmp_path)) == "2 CPU cores"
    precisions = Precisions(training="bf16", teacher="bf16")
    inspected = HardwareInspected(devices=("NVIDIA H200", "NVIDIA T4"), precisions=precisions)
    assert device_of(run_of(tmp_path / "gpu", baselines=[inspected])) == "NVIDIA H200; NVIDIA T4"


def test_facts_of_the_best_trials_trainings_are_said(tmp_path: Path) -> None:
    def on_gpu(number: int, score: float) -> FoldResult:
        facts = TrainingFacts("NVIDIA T4", "fp16", 1000.0 * number, skipped_steps=2, folded_norms=48, num_norms=49)
        return replace(fold(number, score), facts=facts)

    facts = dict(facts_of(run_of(tmp_path, fold_of=on_gpu)))
    assert facts["speed"] == "1.5e+03 examples a second in a training of the best trial"
    assert (facts["precision"], facts["teacher"]) == ("fp16", "48 of 49 BatchNorms folded")
    assert facts["skipped steps"] == "4 of the best trial, whose gradients overflowed in fp16"


def test_facts_that_the_record_does_not_tell_are_left_out(tmp_path: Path) -> None:
    assert not {"speed", "precision", "teacher", "skipped steps"} & set(dict(facts_of(run_of(tmp_path))))


def test_a_model_of_a_baseline_is_named(tmp_path: Path) -> None:
    model = ModelRegistered(baseline="linear_probe", uri="models:/tiny/3", seed=0, test_top1=0.9)
    run = run_of(tmp_path, baselines=[*baseline_events("linear_probe", [0.95, 0.95], [0.9]), model])
    assert model_sentence(run).startswith("The model is the linear probe, trained on")
    (first, *_) = tiles_of(run, None)
    assert (first.title, first.value) == ("Test top-1 of the model", "0.9000")
