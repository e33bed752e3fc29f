"""What the small jobs on a cluster find, as far as it takes no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import head as on_cluster
from deploy import preflight as errands
from deploy.findings import Findings, look_around, missing_requirements
from deploy.head import main
from deploy.settings import load_settings
from tests.deploy.test_submit import begun
from tests.tuner.tiny import space_of
from trainables.errors import BadInput, Problem
from tuner.resources.share import Capacity

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pyproject(tmp_path: Path) -> Path:
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\ndependencies = ["numpy>=1", "numpy>=99", "no-such-package[x]>=2"]\n')
    return file


def test_findings_are_read_back_from_among_other_lines() -> None:
    found = Findings(nodes=2, gpus=0.5, refusals=["a\nb"])
    assert Findings.from_log(f"hello\n{found.line()}\nbye") == found
    assert Findings.from_log("hello") is None


def test_what_is_missing_is_said_with_what_is_there(pyproject: Path) -> None:
    import numpy

    missing = missing_requirements(pyproject)
    assert missing == [f"numpy>=99 (there is {numpy.__version__})", "no-such-package[x]>=2 (there is none)"]


def test_nothing_of_this_project_is_missing_here() -> None:
    assert missing_requirements(ROOT / "pyproject.toml") == []


def test_a_head_without_the_packages_says_so_and_reads_nothing(
    pyproject: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pyproject.parent)
    assert main(["look", "--space", "nowhere.yaml", "--job", "mine"]) == 0
    found = Findings.from_log(capsys.readouterr().out)
    assert found is not None
    assert found.refusals[0].startswith("the head lacks numpy>=99")


def test_a_node_reads_what_the_head_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "token").write_text("abc")
    assert look_around(str(tmp_path / "token"), has_gpus=False).token == "abc"
    monkeypatch.setattr(on_cluster, "TO_BE_SEEN_S", 0)
    assert look_around(str(tmp_path / "nothing"), has_gpus=False).token is None


@pytest.mark.parametrize(
    ("gpus", "room", "where"),
    [
        (0.25, [Capacity(4, 0), Capacity(4, 1)], []),
        (0, [Capacity(4, 0)], []),
        (0.25, [Capacity(4, 0), Capacity(4, 0)], ["resources.gpus"]),
        (2, [Capacity(4, 1), Capacity(4, 1)], ["resources"]),
    ],
)
def test_cards_are_compared_with_what_a_trial_asks_for(gpus: float, room: list[Capacity], where: list[str]) -> None:
    space = space_of(resources={"cpus": 1, "gpus": gpus})
    assert [problem.where for problem in errands._problems_of_room(space, room)] == where


@pytest.mark.parametrize(
    ("resources", "room", "awaited"),
    [
        ({"gpus": 0.25}, [Capacity(0, 0)], {"workers": 1, "cpus": 1, "gpus": 1}),
        ({"cpus": 0.5, "gpus": 2}, [Capacity(0, 0)], {"workers": 1, "cpus": 1, "gpus": 2}),
        ({"gpus": "auto"}, [Capacity(0, 0)], {"workers": 1, "cpus": 1, "gpus": 1}),
        ({"gpus": 0}, [Capacity(0, 0)], {"workers": 1, "cpus": 1, "gpus": 0}),
        ({"gpus": 0.25}, [Capacity(0, 0), Capacity(4, 0)], {}),
    ],
)
def test_a_cluster_at_no_worker_is_asked_for_one_on_which_a_trial_fits(
    resources: dict[str, object], room: list[Capacity], awaited: dict[str, int]
) -> None:
    space = space_of(resources=resources)
    assert errands._awaited(space, room, workers=0) == awaited
    problems = errands._problems_of_room(space, room + errands._to_come(awaited))
    assert [problem.where for problem in problems] == ([] if awaited else ["resources.gpus"])


def test_workers_that_are_asked_for_have_the_size_of_the_settings() -> None:
    worker = load_settings().worker
    awaited = errands._awaited(space_of(), [Capacity(4, 0)], workers=3)
    assert awaited == {"workers": 3, "cpus": worker.cpus, "gpus": worker.gpus}
    assert errands._to_come(awaited) == [Capacity(worker.cpus, worker.gpus)] * 3


def test_a_name_must_be_new_or_known_as_it_is_meant(tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    space = space_of(tracking={"directory": str(directory)})
    assert list(errands._problems_of_name(space, "mine", resume=False)) == []
    (problem,) = errands._problems_of_name(space, "mine", resume=True)
    assert problem.where == "--resume"
    begun(directory)
    assert list(errands._problems_of_name(space, "mine", resume=True)) == []
    (problem,) = errands._problems_of_name(space, "mine", resume=False)
    assert problem.expected == "a new name, or --resume mine"


def test_what_the_mirror_has_is_known_on_a_new_head(tmp_path: Path) -> None:
    places = {"directory": str(tmp_path / "new" / "mine"), "mirror": f"file://{tmp_path}/mirror/mine"}
    space = space_of(tracking=places)
    (problem,) = errands._problems_of_name(space, "mine", resume=True)
    assert problem.got.endswith(f"{places['directory']} or {places['mirror']}")
    begun(tmp_path / "mirror" / "mine")
    assert list(errands._problems_of_name(space, "mine", resume=True)) == []
    (problem,) = errands._problems_of_name(space, "mine", resume=False)
    assert problem.where == "--name"
    (tmp_path / "file").touch()
    space = space_of(tracking=places | {"mirror": f"file://{tmp_path}/file/x"})
    (problem,) = errands._problems_of_name(space, "mine", resume=True)
    assert problem.where == "tracking.mirror"


def test_without_any_tracking_address_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(errands, "check_experiment", lambda space: None)
    (problem,) = errands._problems_on_head(space_of())
    assert problem.where == "tracking.uri"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert list(errands._problems_on_head(space_of())) == []


def test_what_the_head_finds_wrong_with_data_or_store_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(space: object) -> None:
        raise BadInput([Problem("data.root", "a folder", "nothing"), Problem("tracking.uri", "a store", "none")])

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setattr(errands, "check_experiment", check)
    assert [problem.where for problem in errands._problems_on_head(space_of())] == ["data.root", "tracking.uri"]


def test_looking_leaves_no_file_and_no_empty_folder(tmp_path: Path) -> None:
    with errands._token_in(tmp_path / "shared" / "mine") as (file, token):
        assert file is not None
        assert file.read_text() == token
    assert not (tmp_path / "shared" / "mine").exists()
    begun(tmp_path / "shared" / "mine")
    with errands._token_in(tmp_path / "shared" / "mine"):
        pass
    assert [path.name for path in (tmp_path / "shared" / "mine").iterdir()] == ["tiny"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with errands._token_in(tmp_path / "file" / "mine") as (file, why):
        assert file is None
        assert why == "not a directory"


def test_sending_what_has_not_begun_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert errands.send(tmp_path) == 1
    assert "no run has begun" in capsys.readouterr().out


def test_results_too_large_for_a_log_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(tmp_path / "mine")
    assert errands.send(tmp_path / "mine") == 0
    monkeypatch.setattr(errands, "SENT_MIB", 0)
    capsys.readouterr()
    assert errands.send(tmp_path / "mine") == 1
    assert str(run) in capsys.readouterr().out
