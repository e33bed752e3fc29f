"""What is sent to a cluster."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from deploy.package import LIMIT_MIB, MIB, Package, project_files, sent_plugins
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


def test_code_is_sent_and_nothing_else(checkout: Path) -> None:
    names = {
        "pyproject.toml",
        "tuner/search.py",
        "trainables/config.py",
        "deploy/head.py",
        "deploy/settings.yaml",
    }
    assert project_files(checkout).keys() == names


def test_of_this_project_all_that_a_job_runs_is_sent() -> None:
    names = project_files().keys()
    assert {"pyproject.toml", "tuner/search.py", "trainables/trial.py", "deploy/head.py"} <= names
    assert not [name for name in names if name.split("/")[0] not in ("pyproject.toml", "tuner", "trainables", "deploy")]


def test_without_a_checkout_there_is_nothing_to_send(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a checkout of the project, with its pyproject.toml"):
        project_files(tmp_path)


def test_the_archive_holds_the_files_and_the_space_whatever_git_ignores(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".gitignore").write_text("space.yaml\nsearch_spaces/\n")
    Package(project_files(checkout), "name: mine\n").write(tmp_path / "package.zip")
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        assert archive.read("space.yaml") == b"name: mine\n"
        assert archive.read("tuner/search.py") == b"tuner/search.py"
        assert archive.testzip() is None


def test_the_same_content_makes_the_same_archive(checkout: Path, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        (checkout / "tuner" / "search.py").write_text("same")  # with another time
        Package(project_files(checkout), "a: 1").write(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_package_is_described_by_its_size(checkout: Path) -> None:
    (checkout / "tuner" / "weights.bin").write_bytes(bytes(3 * MIB))
    assert str(Package(project_files(checkout), "a: 1")) == "7 files, 3.0 MiB"


def test_too_much_is_refused_naming_the_largest(checkout: Path) -> None:
    with (checkout / "trainables" / "weights.pth").open("wb") as file:
        file.truncate(LIMIT_MIB * MIB)  # and a few bytes more elsewhere
    with pytest.raises(BadInput, match=r"at most 95 MiB .* largest: trainables/weights.pth \(95.0 MiB\)"):
        Package(project_files(checkout), "a: 1").check()


def test_as_much_as_is_allowed_is_sent(checkout: Path) -> None:
    package = Package(project_files(checkout), "a: 1")
    with (checkout / "trainables" / "weights.pth").open("wb") as file:
        file.truncate(LIMIT_MIB * MIB - package.size_bytes)
    Package(project_files(checkout), "a: 1").check()


def test_plugins_are_sent_in_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent_plugins() == {}
    (tmp_path / "mine.py").write_text("METHODS = {}\n")
    monkeypatch.setenv("SMILE_TUNER_PLUGINS", str(tmp_path / "mine.py"))
    assert sent_plugins() == {"plugins/mine.py": tmp_path / "mine.py"}
