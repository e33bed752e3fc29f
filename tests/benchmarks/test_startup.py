from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import startup
from benchmarks.startup import (
    COMMANDS,
    HERE,
    SPACE,
    Command,
    Duration,
    command_line,
    duration_of,
    environment_of,
    first_fold_s,
    main,
)
from trainables.results import FoldResult
from tuner.record.events import FoldAhead, FoldFinished, Header, TrialStarted
from tuner.record.lines import encode

OTHER = Path("/checkouts/other")


def test_limits_in_seconds() -> None:
    assert {command.figure: command.limit_s for command in COMMANDS} == {
        "help_s": 0.5,
        "mistyped_flag_s": 0.5,
        "empty_list_s": 1.0,
        "dry_run_s": 4.0,
        "first_step_s": 10.0,
    }


def test_a_checkout_has_its_own_packages_and_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    environment = environment_of(OTHER)
    assert environment["PYTHONPATH"] == str(OTHER)
    assert environment["OMP_NUM_THREADS"] == "1"
    assert not environment.keys() & {"MLFLOW_TRACKING_URI", "MALLOC_TOP_PAD_"}
    dry_run = next(command for command in COMMANDS if command.figure == "dry_run_s")
    assert command_line(dry_run, OTHER)[1:] == ["-m", "tuner.search", "--space", f"{OTHER}/{SPACE}", "--dry-run"]


@pytest.mark.parametrize("kind", [FoldFinished, FoldAhead])
def test_the_first_fold_of_a_journal(kind: type[FoldFinished] | type[FoldAhead]) -> None:
    trial = TrialStarted(trial=0, params={}, source="sampler", time_s=1.0)
    folds = [kind(trial=0, result=FoldResult(k, 0.5, duration_s=1.0), time_s=10.0 * k) for k in (1, 2)]
    journal = b"".join(encode(event) for event in (Header(), trial, *folds)).decode()
    assert first_fold_s(journal) == 10.0


def test_the_first_fold_of_a_journal_of_an_older_format() -> None:
    lines = [{"event": "search_started", "time_s": 1.0}, {"event": "fold_finished", "time_s": 3.5, "val_top1": 0.5}]
    assert first_fold_s("".join(json.dumps(line) + "\n" for line in lines)) == 3.5


def test_checkouts_take_turns_and_ratios_are_of_pairs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[Path] = []
    durations = {HERE: iter([1.0, 4.0, 0.2]), OTHER: iter([2.0, 16.0, 0.6])}

    def run(command: Command, checkout: Path) -> Duration:
        order.append(checkout)
        return Duration(next(durations[checkout]), 0.1)

    monkeypatch.setattr(startup, "duration_of", run)
    assert main(["--runs", "3", "--only", "help_s", "--against", str(OTHER)]) == 1
    assert order == [HERE, OTHER, OTHER, HERE, HERE, OTHER]
    assert capsys.readouterr().out.splitlines() == [
        "help_s here: 1.00 4.00 0.20 s, 0.10 s of processor time",
        f"help_s {OTHER}: 2.00 16.00 0.60 s, 0.10 s of processor time",
        "help_s there is 3.00 times that here",
        "help_s 1.000 0.5 short",
    ]


def test_a_command_runs_as_a_process_of_its_own() -> None:
    command = next(command for command in COMMANDS if command.figure == "mistyped_flag_s")
    wall_s, cpu_s = duration_of(command, HERE)
    assert cpu_s is not None
    assert 0 < cpu_s < wall_s + 1


def test_a_command_that_ends_otherwise_is_an_error() -> None:
    command = Command("help_s", 0.5, ("tuner.search", "--spce"))
    with pytest.raises(RuntimeError, match=r"help_s: exit code 2 in (.|\n)*unrecognized arguments: --spce"):
        duration_of(command, HERE)
