"""The command against a cluster that is a stand-in: exit codes, and which errors are reported how."""

from __future__ import annotations

import json

import pytest

from deploy import submit
from deploy.job_server import ClusterError
from tests.deploy.fakes import FakeJobClient, job

pytestmark = pytest.mark.usefixtures("cluster")


def run_submit(*words: str) -> int:
    return submit.main([*words, "--address", "http://head:8265"])


def submit_tiny(*words: str) -> int:
    return run_submit("--space", "tiny.yaml", *words)


def test_a_search_is_sent_followed_and_its_results_are_offered(
    cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit_tiny("--name", "mine", "--tracking-uri", "http://mlflow:5000") == 0
    assert len(cluster.sent) == 1
    out = capsys.readouterr().out
    said = out.index(f"sending {len(cluster.sent[0].files)} files, ")
    assert said < out.index("8 CPUs and 2 GPUs on 3 nodes") < out.index("fold 1\n") < out.index("mine succeeded")
    assert "python -m deploy.submit result mine --address http://head:8265" in out


def test_flags_that_change_the_run_reach_it(cluster: type[FakeJobClient]) -> None:
    assert submit_tiny("--smoke", "--trials", "3", "--set", "training.num_steps=9") == 0
    (sent,) = cluster.sent
    assert sent.entrypoint.endswith("--smoke")
    text = sent.files["space.yaml"].decode()
    assert "trials: 3" in text
    assert "num_steps: 9" in text


def test_bad_input_is_reported_in_full_before_a_cluster_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.client.JobClient", None)
    assert submit_tiny("--set", "search.trials=0", "--set", "training.stepps=1") == 2
    err = capsys.readouterr().err
    assert "search.trials" in err
    assert "training.stepps" in err
    assert "2 problems; nothing was started" in err
    assert submit_tiny("--name", "../mine") == 2


def test_a_dry_run_checks_and_starts_nothing(cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]) -> None:
    assert submit_tiny("--dry-run", "--json") == 0
    assert len(cluster.small_jobs) == 1
    assert not cluster.sent
    assert json.loads(capsys.readouterr().out)["cluster"]["gpus"] == 2


@pytest.mark.parametrize(("ends", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 4)])
def test_the_exit_code_is_that_of_the_jobs_end(cluster: type[FakeJobClient], ends: str, code: int) -> None:
    cluster.ends = ends
    assert submit_tiny("--name", "mine") == code
    assert run_submit("status", "mine") == code
    assert run_submit("logs", "-f", "mine") == code


def test_a_cluster_that_is_gone_is_exit_code_3_with_the_command_to_resume(
    cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.breaks = ClusterError("the cluster no longer answers")
    assert submit_tiny("--name", "mine") == 3
    assert "python -m deploy.submit --space tiny.yaml --resume mine" in capsys.readouterr().err


def test_without_follow_the_job_is_left_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit_tiny("--name", "mine", "--no-follow", "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "RUNNING"


@pytest.mark.parametrize("verb", ["status", "logs", "stop", "result"])
def test_an_unknown_job_is_bad_input(verb: str) -> None:
    assert run_submit(verb, "yours") == 2
    with pytest.raises(SystemExit) as refused:
        run_submit(verb, "../yours")
    assert refused.value.code == 2


def test_resuming_takes_a_new_id_and_the_same_folder(cluster: type[FakeJobClient]) -> None:
    cluster.known.append(job(status="STOPPED"))
    assert submit_tiny("--resume", "mine", "--trials", "9") == 0
    (sent,) = cluster.sent
    assert sent.entrypoint.endswith("--resume")
    assert sent.metadata.directory.endswith("/shared/mine")
    assert cluster.known[-1].id == "mine-2"
    assert cluster.small_jobs[0][-1] == "--resume"
