"""What travels, and what a job may be called."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from deploy.package import JOB_NAME, LIMIT_MIB, MIB, Parcel, check_job_name, new_job_name, project_files
from trainables.errors import BadInput

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    files = (
        "pyproject.toml",
        "tuner/search.py",
        "trainables/config.py",
        "deploy/head.py",
        "deploy/settings.yaml",
    )
    others = (".git/config", ".venv/bin/python", "experiments/a/b/journal.jsonl", "data/photo.jpg", "mlflow.db", ".env")
    caches = ("tuner/__pycache__/search.pyc", "tuner/.secret")
    for name in (*files, *others, *caches):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_code_travels_and_nothing_else_does(checkout: Path) -> None:
    names = {
        "pyproject.toml",
        "tuner/search.py",
        "trainables/config.py",
        "deploy/head.py",
        "deploy/settings.yaml",
    }
    assert project_files(checkout).keys() == names


def test_of_this_project_all_that_a_job_runs_travels() -> None:
    names = project_files().keys()
    assert {"pyproject.toml", "tuner/search.py", "trainables/trial.py", "deploy/head.py"} <= names
    assert not [name for name in names if name.split("/")[0] not in ("pyproject.toml", "tuner", "trainables", "deploy")]


def test_without_a_checkout_there_is_nothing_to_send(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a checkout of the project, with its pyproject.toml"):
        project_files(tmp_path)


def test_the_archive_holds_the_files_and_the_space_whatever_git_ignores(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".gitignore").write_text("space.yaml\nsearch_spaces/\n")
    Parcel(project_files(checkout), "name: mine\n").write(tmp_path / "package.zip")
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        assert archive.read("space.yaml") == b"name: mine\n"
        assert archive.read("tuner/search.py") == b"tuner/search.py"
        assert archive.testzip() is None


def test_the_same_content_makes_the_same_archive(checkout: Path, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        (checkout / "tuner" / "search.py").write_text("same")  # with another time
        Parcel(project_files(checkout), "a: 1").write(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_parcel_says_how_much_it_is(checkout: Path) -> None:
    (checkout / "tuner" / "weights.bin").write_bytes(bytes(3 * MIB))
    assert str(Parcel(project_files(checkout), "a: 1")) == "7 files, 3.0 MiB"


def test_too_much_is_refused_naming_the_largest(checkout: Path) -> None:
    with (checkout / "trainables" / "weights.pth").open("wb") as file:
        file.truncate(LIMIT_MIB * MIB)  # and a few bytes more elsewhere
    with pytest.raises(BadInput, match=r"at most 95 MiB .* largest: trainables/weights.pth \(95.0 MiB\)"):
        Parcel(project_files(checkout)).check()


def test_as_much_as_is_allowed_is_sent(checkout: Path) -> None:
    parcel = Parcel(project_files(checkout))
    with (checkout / "trainables" / "weights.pth").open("wb") as file:
        file.truncate(LIMIT_MIB * MIB - parcel.size_bytes)
    Parcel(project_files(checkout)).check()


@pytest.mark.parametrize("name", ["a", "smile-digits-2", "a" * 47])
def test_names_that_a_job_can_have(name: str) -> None:
    assert check_job_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "A", "-a", "a-", "1a", "a.b", "a b", "a\n", "ä", "a" * 48, "%2e"]
)
def test_names_that_would_escape_or_confuse(name: str) -> None:
    with pytest.raises(BadInput, match="the job's name"):
        check_job_name(name)


@pytest.mark.parametrize("experiment", ["smile-digits", "A.b_c", "1st", "___", "x" * 100, "-", "a" * 26 + "-b"])
def test_made_up_names_are_names_and_nobody_elses(experiment: str) -> None:
    names = {new_job_name(experiment) for _ in range(20)}
    assert len(names) > 15
    assert all(JOB_NAME.fullmatch(name) for name in names)
    assert all(re.search(r"-\d{6}-\d{6}-[0-9a-f]{4}$", name) for name in names)
