"""What goes wrong in mid-run ends its trial or the search, is said, and leaves what the search goes on from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.commands import Run, run_command, run_process
from tests.end_to_end.forked import ROOT
from tests.end_to_end.records import Event, fold_numbers, folds_of, retrainings_of, trials_of
from tests.end_to_end.sabotage import BROKEN_IMAGE, HUNG, KILLED, UNRECORDED, WITHOUT_MEMORY
from tests.end_to_end.space import write_photos, write_space

pytestmark = pytest.mark.slow

SABOTAGE = "tests.end_to_end.sabotage"
WATCHED = {"search__trials": 4, "search__checkpoint_period_s": 1e-6, "search__fold_timeout_s": 3600}
FOLDS = [(KILLED, 1), (KILLED, 2), (HUNG, 1), (UNRECORDED, 1), (UNRECORDED, 2)]
"""Those that the search has trained in the end."""


def broke_off_well(run: Run) -> bool:
    """With the reason and what to do, and no traceback."""
    output = run.out + run.err
    return run.code == 1 and "Traceback" not in output and "go on with: python -m tuner.search --space" in run.out


@dataclass(frozen=True)
class Story:
    """One search, that is broken off by a full disk, then by a broken image of the test split, and ends once that is
    repaired; in the first run three things happen to its workers. The events are those after each run."""

    disk_full: Run
    events_on_full_disk: list[Event]
    image_broken: Run
    events_before_repair: list[Event]
    repaired: Run


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("failures")
    photos = write_photos(folder / "photos")
    write_space(folder, photos, **WATCHED, retrain__seeds=1)
    arguments = ("--space", "tiny.yaml")
    whole = (folder / BROKEN_IMAGE).read_bytes()
    disk_full = run_command(SABOTAGE, "workers", *arguments, folder=folder)
    events_on_full_disk = disk_full.events
    image_broken = run_command(SABOTAGE, "image", *arguments, "--resume", folder=folder)
    events_before_repair = image_broken.events
    (folder / BROKEN_IMAGE).write_bytes(whole)
    repaired = run_command("tuner.search", *arguments, "--resume", "--json", "outcome.json", folder=folder)
    return Story(disk_full, events_on_full_disk, image_broken, events_before_repair, repaired)


class TestWorkers:
    """What happens to a worker costs its trial what it must, and the others nothing."""

    def test_a_killed_one_goes_on_from_its_checkpoint_to_the_same_result(self, story: Story, finished: Run) -> None:
        folds = [fold for fold in folds_of(story.repaired.events) if fold.trial == KILLED]
        assert [(fold.fold, fold.resumed_at) for fold in folds] == [(1, 0), (2, 1)]
        undisturbed = trials_of(finished.events)[KILLED]
        assert trials_of(story.repaired.events)[KILLED].params == undisturbed.params
        assert [(fold.val_top1, fold.losses) for fold in folds] == [
            (fold.val_top1, fold.losses) for fold in undisturbed.folds
        ]

    def test_one_that_hangs_is_ended_and_says_where_it_stood(self, story: Story) -> None:
        where = "logs/trial-0001-fold-2-hung.txt"
        reason = trials_of(story.repaired.events)[HUNG].reason
        assert reason == f"fold 2 took longer than search.fold_timeout_s = 3600 s; its stack traces are in {where}"
        assert "in _begin" in (story.repaired.directory / where).read_text()

    def test_one_that_finds_no_memory_is_tried_again_and_then_fails(self, story: Story) -> None:
        reason = trials_of(story.repaired.events)[WITHOUT_MEMORY].reason
        assert reason == "its worker died 3 times: OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."

    def test_the_others_are_not_disturbed(self, story: Story) -> None:
        trial = trials_of(story.repaired.events)[UNRECORDED]
        assert (trial.state, trial.reason) == ("complete", "")

    def test_nothing_is_left_of_any(self, story: Story) -> None:
        assert list(story.repaired.directory.glob("checkpoints/*/*")) == []


class TestDiskAndImages:
    def test_a_full_disk_is_said_with_the_file(self, story: Story) -> None:
        run = story.disk_full
        assert broke_off_well(run), run.out + run.err
        assert f": '{run.directory / 'journal.jsonl'}'" in run.out
        assert "File too large" in run.out  # of a disk: No space left on device
        assert fold_numbers(story.events_on_full_disk) == FOLDS[:3]

    def test_an_image_that_breaks_meanwhile_is_said_with_its_name(self, story: Story) -> None:
        run = story.image_broken
        assert broke_off_well(run), run.out + run.err
        assert f"expected images that decode, got '{run.folder / BROKEN_IMAGE}'" in run.out
        assert fold_numbers(story.events_before_repair) == FOLDS  # which need no file
        assert retrainings_of(story.events_before_repair) == []

    def test_the_search_goes_on_to_its_end(self, story: Story) -> None:
        run = story.repaired
        assert run.code == 0, run.out + run.err
        assert run.outcome["trials"] == {"running": 0, "complete": 2, "pruned": 0, "failed": 2}
        assert fold_numbers(run.events) == FOLDS
        assert len(run.outcome["test_scores"]) == 1


@pytest.mark.nightly
def test_a_node_without_memory_fails_its_trials_and_says_so(tmp_path: Path, photos: Path) -> None:
    """Ray ends workers where a node has used more than a share of its memory, which any node has.

    By day: `tests/tuner/cluster/test_connection.py::TestWhyAProcessDied`, with the error that Ray raises.
    """
    write_space(tmp_path, photos, search__trials=1, retrain__seeds=0)
    scarce = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    run = run_process("tuner.search", "--space", "tiny.yaml", folder=tmp_path, environment=scarce)
    assert run.code == 1
    assert "Traceback" not in run.out + run.err
    reason = trials_of(run.events)[0].reason
    assert reason.startswith("its worker died 3 times: the node ran out of memory, and Ray ended the process")


@pytest.mark.nightly
def test_a_worker_that_is_killed_for_memory_in_a_step_ends_no_search(tmp_path: Path) -> None:
    """By day: `tests/tuner/cluster/test_tune.py`, with the error that Ray raises."""
    workers = {"PYTHONPATH": str(ROOT)}
    run = run_process("tests.end_to_end.scarce_memory", str(tmp_path), folder=tmp_path, environment=workers)
    assert run.code == 0, run.out + run.err
    assert json.loads(run.out.splitlines()[-1]) == {"states": ["complete"] * 3, "was_hungry": True}
    assert "killed due to the node running low on memory" in run.err


@pytest.mark.nightly
def test_data_that_does_not_fit_into_the_object_store_is_refused(tmp_path: Path, photos: Path) -> None:
    """By day: `tests/tuner/cluster/test_connection.py::TestRoomForTheData`, with nodes as Ray describes them."""
    write_space(tmp_path, photos, data__dataset="digits", data__root=None, data__size_px=512)
    small = {"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(100_000_000)}
    run = run_process("tuner.search", "--space", "tiny.yaml", folder=tmp_path, environment=small)
    assert run.code == 2, run.out + run.err
    refusal = (
        "error: data: expected data that fits, once decoded, into Ray's object store of 0.10 GB (take fewer images"
    )
    assert refusal in run.err
    assert "Traceback" not in run.out + run.err
    assert os.listdir(tmp_path / "experiments" / "tiny") == []
