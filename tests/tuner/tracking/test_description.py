"""What the page of a search says in the UI."""

from __future__ import annotations

from pathlib import Path

from tests.tuner.tiny import baseline_events
from tests.tuner.tracking.searches import finish_search, retrain, run_trial, start_search
from tuner.record.directory import RunDirectory
from tuner.record.events import BaselineFailed, ModelRegistered
from tuner.record.examples import ExampleNames
from tuner.record.journal import SearchJournal
from tuner.tracking.description import describe


def described(journal: SearchJournal) -> str:
    history = journal.history
    assert history.started is not None
    return describe(history, history.started, journal.directory, "7")


def test_the_model_its_score_and_the_baselines_come_first(journal: SearchJournal) -> None:
    ExampleNames(class_names=("a", "b"), train=("1",), test=tuple(map(str, range(100)))).write(journal.directory)
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    retrain(journal, 0)
    retrain(journal, 1)
    for event in baseline_events("linear_probe", [0.5, 0.75], [0.8125]):
        journal.append(event)
    journal.append(ModelRegistered(trial=0, uri="models:/digits/3", seed=0, test_top1=0.9))
    finish_search(journal)
    first, *lines = described(journal).splitlines()
    assert first == (
        "**Test top-1 0.9000** (0.8256 to 0.9448, 95 % for 100 test examples): "
        "`models:/digits/3`, the network of seed 0 of trial-0000"
    )
    assert lines[1:4] == [
        "- **trial-0000**, the best of 1: validation top-1 0.7500, test top-1 0.9050 ± 0.0071 (2 seeds)",
        "- linear probe: validation top-1 0.6250, test top-1 0.8125 (1 seed): "
        "the best trial is +9.3 points (+2.9 to +15.6, 2 seeds)",
        "",
    ]


def test_a_baseline_that_wins_is_said(journal: SearchJournal) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.5, 0.5])
    for event in baseline_events("linear_probe", [0.75, 0.75]):
        journal.append(event)
    assert "- the linear probe has the best validation score, so that its model is the result\n" in described(journal)


def test_a_baseline_that_failed_says_why(journal: SearchJournal) -> None:
    start_search(journal)
    journal.append(BaselineFailed(baseline="fine_tuning", reason="fold 1 collapsed"))
    assert described(journal).startswith("- fine-tuning: fold 1 collapsed\n")


def test_it_says_the_configuration_the_files_and_how_to_go_on(journal: SearchJournal, directory: RunDirectory) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    text = described(journal)
    assert "Configuration of trial-0000: `gamma_fe=0.05`\n" in text
    assert f"Report: `{directory.report}`, and `report.html` among the artifacts." in text
    assert "`best.yaml` runs the best configuration alone." in text
    assert text.endswith(f"tuner.search --resume {directory}\n")
    assert "[trials](#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=trials)" in text
    assert "viewStateShareKey=trials&compareRunsMode=CHART)" in text


def test_a_search_without_a_result_says_how_to_go_on(journal: SearchJournal, tmp_path: Path) -> None:
    start_search(journal)
    text = described(journal)
    assert text.startswith("Views of the latest search: ")
    assert "best.yaml" not in text
    assert "--resume" in text


def test_of_the_test_split_nothing_is_said_that_is_not_recorded(journal: SearchJournal) -> None:
    start_search(journal)
    run_trial(journal, 0, [0.7, 0.8])
    journal.append(ModelRegistered(trial=0, uri="models:/digits/3", seed=0, test_top1=0.9))
    assert described(journal).startswith("**Test top-1 0.9000**: `models:/digits/3`, the network of seed 0")
    journal.append(ModelRegistered(trial=0, uri="models:/digits/3"))  # of an earlier version
    assert described(journal).startswith("- **trial-0000**")
