"""Results are copied completely, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy.results import copy_run, fetch_newest_run, has_begun, is_absolute, newest_run, progress_of
from tests.deploy.fakes import begun_run
from tests.tuner.tiny import search_journal
from trainables.errors import BadInput
from tuner.record.directory import RunDirectory
from tuner.record.events import SearchEnded
from tuner.record.history import SearchHistory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = begun_run(tmp_path / "job", model=False)
    for name in ("space.yaml", "report.html", "model/weights.pt", "model/deep/labels.json"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_bytes(name.encode() * 50_000)
    for name in ("lock", "mlflow.lock", "logs/driver.log", "ray/tune/state", "checkpoints/0001.pt"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("not copied")
    return run


def test_the_newest_run_of_a_job_is_found_by_its_journal(run: RunDirectory, tmp_path: Path) -> None:
    (run.path.parent / "20991231-235959").mkdir()  # refused before it began
    assert newest_run(tmp_path / "job") == run
    later = run.path.parent / "20261124-110000"
    later.mkdir()
    (later / "journal.jsonl").touch()
    assert newest_run(tmp_path / "job") == RunDirectory(later)
    assert newest_run(tmp_path / "nowhere") is None


def test_a_job_has_begun_where_its_folder_or_its_mirror_has_a_run(run: RunDirectory, tmp_path: Path) -> None:
    nowhere, mirror = tmp_path / "nowhere", f"file://{tmp_path}/job"
    assert has_begun(tmp_path / "job", None, "tiny")
    assert not has_begun(nowhere, None, "tiny")
    assert has_begun(nowhere, mirror, "tiny")
    assert not has_begun(nowhere, mirror, "another")


def test_progress_is_the_journals(run: RunDirectory) -> None:
    progress = progress_of(run)
    assert (progress.trials, progress.best_top1, progress.has_finished) == (1, pytest.approx(0.6), False)
    for outcome, has_finished in (("interrupted", False), ("finished", True)):
        journal = search_journal(run.path)
        journal.append(SearchEnded(outcome=outcome, why="why"))
        journal.close()
        assert progress_of(run).has_finished is has_finished


def test_model_report_and_record_are_copied_as_they_were(run: RunDirectory, tmp_path: Path) -> None:
    copy_run(run, tmp_path / "home")
    names = {p.relative_to(tmp_path / "home").as_posix() for p in (tmp_path / "home").rglob("*") if p.is_file()}
    assert names == {"journal.jsonl", "space.yaml", "report.html", "model/weights.pt", "model/deep/labels.json"}
    for name in names:
        assert (tmp_path / "home" / name).read_bytes() == (run.path / name).read_bytes()
    assert SearchHistory.read(tmp_path / "home" / "journal.jsonl").trials[0].fold_scores == [0.5, 0.7]


def test_a_copy_that_breaks_off_leaves_nothing(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_run(run, tmp_path / "home")
    (run.path / "best.yaml").write_text("new")
    real, copied = shutil.copyfile, []

    def copyfile(source: Path, target: Path) -> None:
        copied.append(source.name)
        if source.name == "report.html":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    for target in ("home", "other"):
        with pytest.raises(OSError, match="No space"):
            copy_run(run, tmp_path / target)
    assert copied[0] == "journal.jsonl"  # or it might mention what was not copied
    assert not (tmp_path / "home" / "best.yaml").exists()
    assert (tmp_path / "home" / "report.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"job", "home"}


def test_a_file_that_is_gone_before_it_is_copied_is_left_out(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.copyfile

    def copyfile(source: Path, target: Path) -> None:
        if source.name == "report.html":
            source.unlink()
        real(source, target)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    copy_run(run, tmp_path / "home")
    assert not (tmp_path / "home" / "report.html").exists()
    assert (tmp_path / "home" / "model" / "weights.pt").exists()


def test_an_earlier_copy_is_replaced_and_anything_else_is_left_alone(run: RunDirectory, tmp_path: Path) -> None:
    home = tmp_path / "home"
    copy_run(run, home)
    (run.path / "best.yaml").write_text("new")
    (run.path / "report.html").unlink()
    copy_run(run, home)
    assert (home / "best.yaml").read_text() == "new"
    assert not (home / "report.html").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(BadInput, match="new, empty or an earlier copy"):
        copy_run(run, mine)
    assert (mine / "thesis.tex").exists()


def test_a_run_is_fetched_from_the_mirror(run: RunDirectory, tmp_path: Path) -> None:
    fetched = fetch_newest_run(f"file://{tmp_path}/job", tmp_path / "fetched")
    assert fetched == RunDirectory(tmp_path / "fetched" / "tiny" / run.run)
    assert (fetched.model / "weights.pt").read_bytes() == (run.path / "model" / "weights.pt").read_bytes()
    assert fetch_newest_run(f"file://{tmp_path}/nowhere", tmp_path / "empty") is None


@pytest.mark.parametrize(("place", "holds"), [("/nfs/x", True), ("s3://b/x", True), ("x", False), ("~/x", False)])
def test_absolute_places(place: str, holds: bool) -> None:
    assert is_absolute(place) is holds
