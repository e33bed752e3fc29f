"""Results come home whole, or not at all."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path

import pytest

from deploy.results import DATA, Incomplete, Results, newest_run, pack, unpack
from tests.tuner.tiny import add_trial
from trainables.errors import BadInput
from tuner.record.history import History
from tuner.record.journal import Journal


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "job" / "tiny" / "20261124-100000"
    journal = Journal(run)
    add_trial(journal, 0, [0.5, 0.7])
    journal.close()
    for name in ("space.yaml", "report.html", "model/weights.pt", "model/deep/labels.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(name.encode() * 50_000)
    for name in ("lock", "mlflow.lock", "logs/driver.log", "ray/tune/state", "checkpoints/0001.pt"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("not worth the way")
    return run


def test_the_newest_run_of_a_job_is_found_by_its_journal(run: Path, tmp_path: Path) -> None:
    (run.parent / "20991231-235959").mkdir()  # refused before it began
    assert newest_run(tmp_path / "job") == run
    later = run.parent / "20261124-110000"
    later.mkdir()
    (later / "journal.jsonl").touch()
    assert newest_run(tmp_path / "job") == later
    assert newest_run(tmp_path / "nowhere") is None


def test_model_report_and_record_come_home_as_they_were(run: Path, tmp_path: Path) -> None:
    unpack(Results.from_lines("\n".join(pack(run).lines())), tmp_path / "home")
    names = {p.relative_to(tmp_path / "home").as_posix() for p in (tmp_path / "home").rglob("*") if p.is_file()}
    assert names == {"journal.jsonl", "space.yaml", "report.html", "model/weights.pt", "model/deep/labels.json"}
    for name in names:
        assert (tmp_path / "home" / name).read_bytes() == (run / name).read_bytes()
    assert History.read(tmp_path / "home").trials[0].fold_scores == [0.5, 0.7]


def test_lines_of_others_in_the_log_do_no_harm(run: Path) -> None:
    sent = pack(run)
    lines = [text for line in sent.lines() for text in (line, "WARNING: (pid=7) hello")]
    assert Results.from_lines("before\n" + "\n".join(lines) + "\nafter\n") == sent


def test_what_was_cut_off_is_not_taken_for_whole(run: Path) -> None:
    lines = list(pack(run).lines())
    with pytest.raises(Incomplete, match="cut off"):
        Results.from_lines("\n".join(lines[:-1]))
    with pytest.raises(Incomplete, match="cut off"):
        Results.from_lines("")


def test_a_line_lost_on_the_way_is_noticed_and_nothing_is_put_down(run: Path, tmp_path: Path) -> None:
    lines = list(pack(run).lines())
    data = [n for n, line in enumerate(lines) if line.startswith(DATA)]
    del lines[data[3]]
    with pytest.raises(Incomplete):
        unpack(Results.from_lines("\n".join(lines)), tmp_path / "home")
    assert not (tmp_path / "home").exists()
    assert not list(tmp_path.glob(".home-*"))


def test_a_changed_file_and_a_missing_one_are_named(run: Path, tmp_path: Path) -> None:
    sent = pack(run)
    with pytest.raises(Incomplete, match=r"space.yaml is not what was sent"):
        unpack(dataclasses.replace(sent, manifest=sent.manifest | {"space.yaml": "0" * 64}), tmp_path / "home")
    with pytest.raises(Incomplete, match=r"best.yaml is missing"):
        unpack(dataclasses.replace(sent, manifest=sent.manifest | {"best.yaml": "0" * 64}), tmp_path / "home")


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("../escaped")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(Incomplete, match="cannot be read"):
        unpack(Results({}, buffer.getvalue()), tmp_path / "home")
    assert not (tmp_path / "escaped").exists()


def test_an_earlier_copy_is_replaced_and_anything_else_is_left_alone(run: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    unpack(pack(run), home)
    (run / "best.yaml").write_text("new")
    (run / "report.html").unlink()
    unpack(pack(run), home)
    assert (home / "best.yaml").read_text() == "new"
    assert not (home / "report.html").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(BadInput, match="new, empty or an earlier copy"):
        unpack(pack(run), mine)
    assert (mine / "thesis.tex").exists()
