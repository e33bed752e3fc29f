"""What goes wrong in mid-run ends its trial or the search, is said, and leaves what the search goes on from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import DEADLINE_S, SPACE, Run, clean_environment, give
from tests.end_to_end.test_resume import trials_of
from tests.tuner.tiny import write_photos, write_yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WATCHED = {"search__checkpoint_period_s": 1e-6, "search__fold_timeout_s": 3600}


def give_sabotaged(kind: str, *arguments: str, folder: Path, **environment: str) -> Run:
    """`python -m tuner.search <arguments>` in `folder`, to which `kind` happens."""
    command = [sys.executable, "-m", "tests.end_to_end.sabotage", kind, *arguments]
    paths = {"PYTHONPATH": str(ROOT)} | environment
    ended = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment() | paths,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return Run(folder, ended.returncode, ended.stdout, ended.stderr)


def reasons(run: Run) -> dict[int, str]:
    return {event["trial"]: event["reason"] for event in run.events if event["event"] == "trial_finished"}


def broke_off_well(run: Run) -> bool:
    """With the reason and what to do, and no traceback."""
    said = run.out + run.err
    return run.code == 1 and "Traceback" not in said and "go on with: python -m tuner.search --space" in run.out


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("workers")
    write_yaml(folder, **deepcopy(SPACE) | WATCHED, retrain__seeds=0, search__trials=4)
    run = give_sabotaged("workers", "--space", "tiny.yaml", folder=folder)
    assert run.code == 0, run.out + run.err
    return run


class TestWorkers:
    """One search, to whose workers three things happen; each costs its trial what it must and the others nothing."""

    def test_a_killed_one_goes_on_from_its_checkpoint_to_the_same_result(self, workers: Run, finished: Run) -> None:
        folds = [e["result"] for e in workers.events if e["event"] == "fold_finished" and e["trial"] == 0]
        assert [(fold["fold"], fold["taken_up_at"]) for fold in folds] == [(1, 0), (2, 1)]
        assert trials_of(workers)[0] == trials_of(finished)[0]

    def test_one_that_hangs_is_ended_and_says_where_it_stood(self, workers: Run) -> None:
        where = "logs/trial-0001-fold-2-hung.txt"
        assert reasons(workers)[1] == f"fold 2 took longer than search.fold_timeout_s = 3600 s; where it stood: {where}"
        assert "in _begun" in (workers.directory / where).read_text()

    def test_one_that_finds_no_memory_is_tried_again_and_then_fails(self, workers: Run) -> None:
        said = "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."
        assert reasons(workers)[2] == f"its worker died 3 times: {said}"

    def test_the_others_are_not_disturbed(self, workers: Run) -> None:
        assert reasons(workers)[3] == ""
        folds = Counter((e["trial"], e["result"]["fold"]) for e in workers.events if e["event"] == "fold_finished")
        assert folds == Counter([(0, 1), (0, 2), (1, 1), (3, 1), (3, 2)])

    def test_nothing_is_left_of_any(self, workers: Run) -> None:
        assert list(workers.directory.glob("checkpoints/*/*")) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    write_photos(folder / "photos", side_px=32, train=8, test=8)
    data = {"dataset": "imagefolder", "root": "photos", "size_px": 32}
    write_yaml(folder, **deepcopy(SPACE), data=data, search__trials=2, retrain__seeds=1)
    return folder


@pytest.fixture(scope="module")
def disk_full(folder: Path) -> tuple[Run, list[dict[str, Any]]]:
    run = give_sabotaged("disk", "--space", "tiny.yaml", folder=folder)
    return run, run.events


@pytest.fixture(scope="module")
def image_broken(folder: Path, disk_full: Any) -> tuple[Run, list[dict[str, Any]]]:
    run = give_sabotaged("image", "--space", "tiny.yaml", "--resume", folder=folder)
    return run, run.events


@pytest.fixture(scope="module")
def repaired(folder: Path, image_broken: Any) -> Run:
    image = folder / "photos" / "test" / "apple" / "2.png"
    image.write_bytes(image.with_name("1.png").read_bytes())
    return give("tuner.search", "--space", "tiny.yaml", "--resume", "--json", "outcome.json", folder=folder)


class TestDiskAndImages:
    """One search that is broken off by a full disk, then by a broken image of the test split, and gone on with."""

    def test_a_full_disk_is_said_with_the_file(self, disk_full: tuple[Run, list[dict[str, Any]]]) -> None:
        run, events = disk_full
        assert broke_off_well(run), run.out + run.err
        assert f": '{run.directory / 'journal.jsonl'}'" in run.out
        assert "File too large" in run.out  # of a disk: No space left on device
        assert [e["event"] for e in events].count("fold_finished") == 1

    def test_an_image_that_breaks_meanwhile_is_said_with_its_name(
        self, image_broken: tuple[Run, list[dict[str, Any]]]
    ) -> None:
        run, events = image_broken
        assert broke_off_well(run), run.out + run.err
        assert f"expected images that decode, got '{run.folder / 'photos' / 'test' / 'apple' / '2.png'}'" in run.out
        assert [e["event"] for e in events].count("fold_finished") == 4  # which need no file

    def test_the_search_goes_on_to_its_end(self, repaired: Run) -> None:
        assert repaired.code == 0, repaired.out + repaired.err
        assert repaired.outcome["trials"] == {"running": 0, "complete": 2, "pruned": 0, "failed": 0}
        folds = [(e["trial"], e["result"]["fold"]) for e in repaired.events if e["event"] == "fold_finished"]
        assert folds == [(0, 1), (0, 2), (1, 1), (1, 2)]
        assert len(repaired.outcome["test_scores"]) == 1


def test_a_node_without_memory_fails_its_trials_and_says_so(tmp_path: Path) -> None:
    """Ray ends workers where a node has used more than a share of its memory, which any node has."""
    write_yaml(tmp_path, **deepcopy(SPACE), search__trials=1, retrain__seeds=0)
    scarce = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    run = give_sabotaged("nothing", "--space", "tiny.yaml", folder=tmp_path, **scarce)
    assert run.code == 1
    assert "Traceback" not in run.out + run.err
    assert reasons(run)[0].startswith("its worker died 3 times: the node ran out of memory, and Ray ended the process")


def test_data_that_does_not_fit_into_the_object_store_is_refused(tmp_path: Path) -> None:
    write_yaml(tmp_path, **deepcopy(SPACE), data={"dataset": "digits", "size_px": 512, "flip": False})
    small = {"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(100_000_000)}
    run = give_sabotaged("nothing", "--space", "tiny.yaml", folder=tmp_path, **small)
    assert run.code == 2, run.out + run.err
    assert "error: data: decoded, the data fits into Ray's object store, 0.10 GB (take fewer images" in run.err
    assert "Traceback" not in run.out + run.err
    assert os.listdir(tmp_path / "experiments" / "tiny") == []
