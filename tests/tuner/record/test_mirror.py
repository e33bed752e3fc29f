"""A copy from which another machine goes on. In place of an object store, a folder by way of file://."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow.fs import FileType

from tests.tuner.tiny import add_trial, events_in, space_of
from trainables.errors import BadInput
from tuner.cli.arguments import experiment_parser, resolve_space_file
from tuner.execution.run_context import run_directory
from tuner.experiment.search_experiment import SearchExperiment
from tuner.record import mirror as module
from tuner.record.create import latest_run, new_run
from tuner.record.directory import RunDirectory
from tuner.record.journal import open_search_journal
from tuner.record.mirror import Mirror, MirrorUploader, download_run, mirrored


@pytest.fixture
def there(tmp_path: Path) -> Mirror:
    return Mirror.open(f"file://{tmp_path}/mirror")


@pytest.fixture
def space(tmp_path: Path) -> SearchExperiment:
    return space_of(tracking__directory=str(tmp_path / "here"), tracking__mirror=f"file://{tmp_path}/mirror")


@pytest.fixture
def run(space: SearchExperiment) -> RunDirectory:
    """A run with a finished trial, a model and a fold in training."""
    directory = new_run(space)
    left_out = ("ray/tune/state", "logs/driver.log", "lock", "mlflow.lock")
    for name in ("model/weights.pt", "checkpoints/trial-0001/fold-1.pt", *left_out):
        (directory.path / name).parent.mkdir(parents=True, exist_ok=True)
        (directory.path / name).write_text(name)
    add(directory, 0)
    return directory


def add(directory: RunDirectory, number: int) -> None:
    journal = open_search_journal(directory)
    add_trial(journal, number, [0.8, 0.9])
    journal.close()


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def copy_of(run: RunDirectory, mirror: Mirror) -> Path:
    return Path(mirror.root) / "tiny" / run.run


WORTH_IT = {"space.yaml", "environment.json", "journal.jsonl", "model/weights.pt"}
CHECKPOINT = "checkpoints/trial-0001/fold-1.pt"


def test_what_a_search_goes_on_from_is_copied(there: Mirror, run: RunDirectory) -> None:
    MirrorUploader(there, run).advance()
    assert names_in(copy_of(run, there)) == WORTH_IT | {CHECKPOINT}
    assert all((copy_of(run, there) / name).read_bytes() == (run.path / name).read_bytes() for name in WORTH_IT)


def test_only_what_has_changed_is_copied_again_and_what_is_gone_is_removed(
    there: Mirror, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, written = MirrorUploader(there, run), written_to(there, monkeypatch)
    copy.advance()
    written.clear()
    copy.advance()
    assert written == []
    add(run, 1)
    shutil.rmtree(run.path / "checkpoints")
    copy.advance()
    assert written == [f"tiny/{run.run}/journal.jsonl"]
    assert names_in(copy_of(run, there)) == WORTH_IT


def written_to(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, before: Callable[[str], object] = str) -> list[str]:
    """Of every file that is written its name, in order; `before` is called with it."""
    written: list[str] = []
    put = Mirror.put

    def watched(self: Mirror, name: str, content: bytes) -> None:
        before(name)
        written.append(name)
        put(self, name, content)

    monkeypatch.setattr(Mirror, "put", watched)
    return written


def test_what_an_earlier_session_has_left_there_is_removed(there: Mirror, run: RunDirectory) -> None:
    MirrorUploader(there, run).advance()
    shutil.rmtree(run.path / "checkpoints")
    MirrorUploader(there, run).advance()
    assert names_in(copy_of(run, there)) == WORTH_IT


def test_the_journal_never_speaks_of_what_is_not_there(
    there: Mirror, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is appended while files are copied is of the next time, and the journals come after what they say."""
    add(run.row_search(0), 0)
    said = run.journal.read_bytes()
    written = written_to(there, monkeypatch, before=lambda name: add(run, 7) if "model" in name else None)
    MirrorUploader(there, run).advance()
    order = [name.removeprefix(f"tiny/{run.run}/") for name in written]
    assert order[-3:] == ["searches/00/journal.jsonl", "journal.jsonl", CHECKPOINT]
    assert (copy_of(run, there) / "journal.jsonl").read_bytes() == said


def test_before_its_first_event_a_run_leaves_nothing_there(there: Mirror, space: SearchExperiment) -> None:
    MirrorUploader(there, new_run(space)).advance()
    assert names_in(Path(there.root)) == set()


def test_it_is_copied_in_the_background_and_to_the_end(
    there: Mirror, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.01)
    with mirrored(there, run, pytest.fail):
        run.report.write_text("found")
    assert (copy_of(run, there) / "report.html").read_text() == "found"


def test_a_place_that_is_lost_is_said_once_in_the_end(there: Mirror, run: RunDirectory) -> None:
    shutil.rmtree(there.root, ignore_errors=True)
    Path(there.root).write_text("no folder")
    said: list[str] = []
    with mirrored(there, run, said.append):
        add(run, 1)
    (line,) = said
    assert line.startswith(f"the copy in {there.uri} is behind")


@pytest.mark.parametrize("uri", ["nope://x", "s3:///prefix", "file:///dev/null/x"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_begins(space: SearchExperiment, uri: str) -> None:
    with pytest.raises(BadInput, match=rf"tracking.mirror: expected (the URI of )?an object store.*, got {uri}: "):
        Mirror.open(uri)


@pytest.mark.parametrize("uri", ["bucket/prefix", "s3://", "s3://key:pa55word@bucket/x", "s3://b/x?region=here"])
def test_a_place_is_a_uri_without_credentials(uri: str) -> None:
    with pytest.raises(BadInput, match=r"tracking\.mirror: expected s3://bucket/prefix .*without credentials") as bad:
        space_of(tracking__mirror=uri)
    assert "pa55word" not in str(bad.value)


class TestResume:
    def test_a_run_that_is_gone_here_is_fetched(
        self, there: Mirror, run: RunDirectory, space: SearchExperiment, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = run.journal.read_bytes()
        MirrorUploader(there, run).advance()
        shutil.rmtree(run.path.parent)
        with run_directory(space, True, print) as directory:
            assert directory == run
            assert names_in(run.path) - {"lock", "data.csv"} == WORTH_IT | {CHECKPOINT}
            assert run.journal.read_bytes() == before
        assert capsys.readouterr().out == f"the search is copied from {there.uri}/tiny/{run.run}\n"

    def test_the_newest_run_wherever_it_is(self, there: Mirror, run: RunDirectory, space: SearchExperiment) -> None:
        MirrorUploader(there, run).advance()
        newer = RunDirectory(run.path.rename(run.path.with_name("29990101-000000-aaaa")))
        MirrorUploader(there, newer).advance()
        assert latest_run(space, there) == newer
        shutil.rmtree(newer.path)
        older = new_run(space)
        add(older, 0)
        assert latest_run(space, there) == newer
        shutil.rmtree(copy_of(newer, there))
        assert latest_run(space, there).run == max(run.run, older.run)

    def test_a_run_there_that_has_not_begun_is_none(
        self, there: Mirror, run: RunDirectory, space: SearchExperiment
    ) -> None:
        MirrorUploader(there, run).advance()
        (copy_of(run, there) / "journal.jsonl").unlink()
        shutil.rmtree(run.path)
        with pytest.raises(BadInput, match=rf"an earlier run of 'tiny' in .*/here/tiny or {there.uri}/tiny"):
            latest_run(space, there)

    @pytest.mark.parametrize("ahead", ["here", "there"])
    def test_the_longer_journal_wins(self, there: Mirror, run: RunDirectory, ahead: str) -> None:
        MirrorUploader(there, run).advance()
        behind = run.journal.read_bytes()
        add(run, 1)
        if ahead == "there":
            MirrorUploader(there, run).advance()
            run.journal.write_bytes(behind)
        said = there.pull(run)
        assert ("is longer than the one here" in said) == (ahead == "there")
        assert len(events_in(run.journal)) == 8
        assert not run.replaced_journal.exists()

    @pytest.mark.parametrize("ahead", ["here", "there"])
    def test_where_they_have_parted_the_longer_wins_says_so_and_loses_nothing_here(
        self, there: Mirror, run: RunDirectory, ahead: str
    ) -> None:
        MirrorUploader(there, run).advance()
        shared = run.journal.read_bytes()
        add(run, 1)
        add(run, 2)
        here, other = (shared, b"") if ahead == "there" else (run.journal.read_bytes(), shared)
        if ahead == "there":
            MirrorUploader(there, run).advance()
            here = shared.replace(b"0.8", b"0.7")
        else:
            (copy_of(run, there) / "journal.jsonl").write_bytes(other.replace(b"0.8", b"0.7"))
        run.journal.write_bytes(here)
        assert "and is used" in there.pull(run)
        assert len(events_in(run.journal)) == 12
        kept = run.replaced_journal
        assert kept.read_bytes() == here if ahead == "there" else not kept.exists()

    @pytest.mark.parametrize("which", ["tiny", "tiny/{run}"])
    def test_without_the_file_its_record_is_fetched(
        self, there: Mirror, run: RunDirectory, which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        MirrorUploader(there, run).advance()
        monkeypatch.chdir(tmp_path)
        words = ["--resume", which.format(run=run.run), "--set", f"tracking.mirror={there.uri}"]
        arguments = resolve_space_file(experiment_parser("search").parse_args(words))
        assert arguments.space == tmp_path / "experiments" / "tiny" / run.run / "space.yaml"
        assert dict(arguments.set)["tracking.directory"] == "experiments"
        assert names_in(arguments.space.parent) - {"lock"} == WORTH_IT | {CHECKPOINT}

    def test_what_is_here_is_not_fetched(self, there: Mirror, run: RunDirectory) -> None:
        MirrorUploader(there, run).advance()
        run.journal.write_text("")
        download_run(there.uri, "tiny", run.path.parents[1])
        assert run.journal.read_text() == ""
        download_run(there.uri, "other", run.path.parents[1])
        assert not (run.path.parents[1] / "other").exists()

    def test_a_file_cannot_leave_its_folder(self, there: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        class Info:
            path, type = f"{there.root}/tiny/run/../../escaped", FileType.File

        class Hostile:
            def get_file_info(self, selector: object) -> list[type[Info]]:
                return [Info]

        assert Mirror(there.uri, Hostile(), there.root).files("tiny/run") == []
