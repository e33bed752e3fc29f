from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import quality, quality_runs
from benchmarks.quality import main
from benchmarks.quality_runs import OURS, PEERS, THIRD, Run, Setup
from tests.benchmarks.photographs import written_pictures

CORRECT = {OURS: "111111", THIRD: "111111"}
FIGURES = (
    *(f"ahead_of_{name}" for name in PEERS),
    "in_a_third_ahead_of_best",
    *(f"{n}_time_over_minutes" for n in CORRECT),
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return written_pictures(tmp_path / "photos")


@pytest.fixture
def setups(monkeypatch: pytest.MonkeyPatch) -> list[Setup]:
    """Everybody can take part, and is scored at once; what they were given."""
    given: list[Setup] = []

    def made_up(setup: Setup, root: Path, plan: Run) -> Run:
        given.append(setup)
        return replace(plan, correct=CORRECT.get(plan.contestant, "110011"), seconds=60.0)

    monkeypatch.setattr(quality_runs, "make_run", made_up)
    monkeypatch.setattr(quality, "reason_to_skip", lambda *_: "")
    return given


def test_all_figures_stand_at_the_end(
    photos: Path, setups: list[Setup], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json_file, markdown = tmp_path / "runs.json", tmp_path / "page.md"
    arguments = ["--root", str(photos), "--minutes", "5", "--set", "search.trials=2"]
    assert main([*arguments, "--json", str(json_file), "--markdown", str(markdown)]) == 0
    _, _, end = capsys.readouterr().out.partition("All figures (5 minutes, 3 seeds):\n")
    lines = end.splitlines()
    assert lines[0] == "quality-photos-ours 1.0000 ± 0.0000"
    assert lines[-len(FIGURES) :] == [line for line in lines if line.endswith(" ok")]
    assert [line.split()[0] for line in lines[-len(FIGURES) :]] == [f"quality-photos-{name}" for name in FIGURES]
    assert len(json.loads(json_file.read_bytes())) == len(setups) == 3 * (2 + len(PEERS))
    assert {(setup.minutes, setup.settings) for setup in setups} == {(5.0, ("search.trials=2",))}
    assert markdown.read_text().endswith("".join(f"    {line}\n" for line in lines))


def test_a_lead_that_is_short_is_said(photos: Path, setups: list[Setup], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CORRECT, OURS, "110011")
    assert main(["--root", str(photos), "--seeds", "0", "--without-third"]) == 1


def test_a_skipped_peer_is_said_before_and_after(
    photos: Path, setups: list[Setup], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "reason_to_skip", lambda _, name: "no fastai" if name == "fastai" else "")
    assert main(["--root", str(photos), "--seeds", "0", "--peers", "fastai", "template"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("skipped fastai: no fastai\n") == 2
    assert "quality-photos-ahead_of_template" in printed
    assert "ahead_of_fastai" not in printed
    assert len(setups) == 3


def test_folders_are_taken_in_any_form(photos: Path, setups: list[Setup], tmp_path: Path) -> None:
    other, third = written_pictures(tmp_path / "other"), written_pictures(tmp_path / "third")
    arguments = ["--root", str(photos), str(other), "--root", str(third), "--seeds", "0", "--peers"]
    assert main(arguments) == 0
    assert len(setups) == 3 * 2


def test_folders_without_a_test_split_are_refused(
    photos: Path, setups: list[Setup], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "again").mkdir()
    assert main(["--root", str(photos / "train")]) == 2
    assert "expected train/ and test/" in capsys.readouterr().err
    assert main(["--root", str(photos), str(written_pictures(tmp_path / "again" / "photos"))]) == 2
    assert "--root: expected folders of different names" in capsys.readouterr().err
    assert not setups
