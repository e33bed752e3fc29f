from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import submit
from tests.deploy.fakes import FakeJobClient, begun_run, job

pytestmark = pytest.mark.usefixtures("cluster")


def give(*words: str) -> int:
    return submit.main([*words, "--address", "http://head:8265"])


def test_the_list_has_the_jobs_of_all_users_and_the_best_score_where_the_folder_is_seen(
    cluster: type[FakeJobClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_run(tmp_path / "shared" / "mine")
    cluster.known += [job(directory=str(tmp_path / "shared" / "mine")), job(name="hers", user="bea")]
    assert give("list", "--json") == 0
    mine, hers = json.loads(capsys.readouterr().out)
    assert (mine["name"], mine["user"], mine["best_top1"]) == ("mine", "ada", 0.6)
    assert (hers["name"], hers["user"], "best_top1" in hers) == ("hers", "bea", False)
    assert give("list") == 0
    out = capsys.readouterr().out
    assert "0.6000" in out
    assert "bea" in out


def test_a_journal_of_another_format_does_not_hide_the_jobs(
    cluster: type[FakeJobClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_run(tmp_path / "shared" / "mine").journal.write_text('{"event": "journal", "format": 0}\n')
    cluster.known += [job(directory=str(tmp_path / "shared" / "mine")), job(name="hers")]
    assert give("list", "--json") == 0
    mine, hers = json.loads(capsys.readouterr().out)
    assert "trials" not in mine
    assert hers["name"] == "hers"
    assert give("status", "mine") == 0
    assert give("result", "mine") == 2


def test_status_shows_what_is_known(cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]) -> None:
    cluster.known.append(job())
    assert give("status", "mine") == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (shown["status"], shown["user"]) == ("RUNNING", "ada")
    assert shown["started"].startswith("1970-01-01")
    assert "mirror" not in shown


def test_logs_are_printed_or_part_of_the_json(cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]) -> None:
    cluster.known.append(job())
    assert give("logs", "mine") == 0
    assert capsys.readouterr().out == "fold 1\n"
    assert give("logs", "mine", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"name": "mine", "log": "fold 1\n"}


def test_stop_prints_the_command_to_resume(cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]) -> None:
    cluster.known.append(job())
    assert give("stop", "mine") == 0
    out = capsys.readouterr().out
    assert "mine is stopped; go on with: python -m deploy.submit --space tiny.yaml --resume mine" in out


def test_results_are_copied_from_a_folder_that_both_see(
    cluster: type[FakeJobClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_run(tmp_path / "shared" / "mine")
    cluster.known.append(job(directory=str(tmp_path / "shared" / "mine")))
    assert give("result", "mine") == 0
    assert (tmp_path / "results" / "mine" / "model" / "weights.pt").read_bytes() == b"weights"
    assert capsys.readouterr().out == "results/mine: model, report and record; the search has not finished\n"


def test_without_a_model_only_the_record_is_announced(
    cluster: type[FakeJobClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_run(tmp_path / "shared" / "mine", model=False)
    cluster.known.append(job(directory=str(tmp_path / "shared" / "mine")))
    assert give("result", "mine", "--json") == 0
    said = capsys.readouterr()
    assert "record alone, as there is no model yet" in said.err
    assert json.loads(said.out) == {
        "name": "mine",
        "folder": str(tmp_path / "results" / "mine"),
        "trials": 1,
        "best_top1": 0.6,
        "has_finished": False,
    }


def test_or_from_the_mirror_of_the_job(cluster: type[FakeJobClient], tmp_path: Path) -> None:
    run = begun_run(tmp_path / "store" / "mine")
    cluster.known.append(job(mirror=f"file://{tmp_path}/store/mine"))
    assert give("result", "mine", "--to", "home") == 0
    assert (tmp_path / "home" / "journal.jsonl").read_bytes() == run.journal.read_bytes()
    assert (tmp_path / "home" / "model" / "weights.pt").read_bytes() == b"weights"


def test_results_out_of_reach_are_exit_code_1_with_the_places_where_they_are(
    cluster: type[FakeJobClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.known.append(job(mirror=f"file://{tmp_path}/store/mine", tracking="http://mlflow:5000"))
    assert give("result", "mine") == 1
    out = capsys.readouterr().out
    assert "/nowhere/mine on the cluster, copied to file://" in out
    assert "kubectl cp" in out
    assert "MLflow at http://mlflow:5000 has its model and report, in experiment tiny" in out
    assert not (tmp_path / "results").exists()
    assert give("result", "mine", "--json") == 1
    assert json.loads(capsys.readouterr().out)["directory"] == "/nowhere/mine"


def test_results_outlive_their_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun_run(tmp_path / "shared" / "mine")
    monkeypatch.setattr("deploy.client.JobClient", None)
    assert give("result", "mine", "--directory", str(tmp_path / "shared")) == 0
    assert give("result", "mine", "--directory", "shared") == 2
    assert "--directory: expected an absolute path on the cluster, got 'shared'" in capsys.readouterr().err
    assert give("result", "mine", "--directory", f"file://{tmp_path}/shared", "--to", "copied") == 0
    assert (tmp_path / "copied" / "model" / "weights.pt").read_bytes() == b"weights"
    assert give("result", "other", "--directory", f"file://{tmp_path}/shared") == 2
    assert give("result", "other", "--directory", str(tmp_path / "shared")) == 2
