"""What is sent to a cluster, and when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.client import connect
from deploy.findings import Findings
from deploy.job_server import ClusterError
from deploy.output import Output
from deploy.package import project_files
from deploy.submission import Submission, new_submission, send
from deploy.worker_request import WorkerRequest
from tests.deploy.fakes import FakeJobClient, job
from trainables.errors import BadInput, Problem

pytestmark = pytest.mark.usefixtures("cluster")

SPACE = Path("tiny.yaml")
SEARCH = "python -m tuner.search --space space.yaml --address auto"


def sent(submission: Submission, dry_run: bool = False) -> Findings:
    return send(submission, connect("http://head:8265", None, 30.0), dry_run, Output(as_json=False))


def test_code_experiment_and_metadata_are_sent(cluster: type[FakeJobClient]) -> None:
    sent(new_submission(SPACE, {"tracking.uri": "http://mlflow:5000"}, name="mine"))
    (call,) = cluster.sent
    assert call.entrypoint == f"exec {SEARCH} --set tracking.directory=/shared/mine"
    assert call.environment == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert call.files.keys() == {*project_files(), "space.yaml"}
    assert call.metadata.name == "mine"
    assert call.metadata.directory.endswith("/shared/mine")
    assert (call.metadata.mirror, call.metadata.tracking) == ("", "http://mlflow:5000")


def test_results_go_where_the_cluster_says(cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]) -> None:
    cluster.findings = Findings(nodes=1, cpus=8, directory="/scratch/mine", mirror="s3://lab/runs/mine")
    sent(new_submission(SPACE, {}, name="mine"))
    (call,) = cluster.sent
    assert (call.metadata.directory, call.metadata.mirror) == ("/scratch/mine", "s3://lab/runs/mine")
    places = "--set tracking.directory=/scratch/mine --set tracking.mirror=s3://lab/runs/mine"
    assert call.entrypoint == f"exec {SEARCH} {places}"
    assert "results go to s3://lab/runs/mine\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("workers", "found", "line"),
    [
        (
            0,
            Findings(nodes=1, awaited=WorkerRequest(1, 2, 1), directory="/d"),
            "\nno worker is there yet: mine asks for a worker with at least 2 CPUs and 1 GPUs, and waits before",
        ),
        (
            3,
            Findings(nodes=3, cpus=8, awaited=WorkerRequest(3, 8, 1), directory="/d"),
            "\nmine asks for 3 workers, each with at least 8 CPUs and 1 GPUs, and waits before it searches\n",
        ),
    ],
)
def test_workers_that_are_to_come_are_waited_for(
    cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str], workers: int, found: Findings, line: str
) -> None:
    cluster.findings = found
    sent(new_submission(SPACE, {}, name="mine", workers=workers))
    wait, _, search = cluster.sent[0].entrypoint.partition(" -- ")
    assert found.awaited is not None
    asked = f"--workers {found.awaited.workers} --cpus {found.awaited.cpus} --gpus {found.awaited.gpus}"
    assert wait == f"exec python -m deploy.workers {asked}"
    assert search == f"{SEARCH} --set tracking.directory=/d"
    assert cluster.small_jobs[0][-2:] == (["--workers", str(workers)] if workers else ["--job", "mine"])
    assert line in capsys.readouterr().out


def test_nothing_secret_is_in_what_is_sent(cluster: type[FakeJobClient], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "pa55word")
    sent(new_submission(SPACE, {}))
    assert cluster.sent
    assert "pa55word" not in repr(cluster.sent) + repr(cluster.small_jobs)


@pytest.mark.parametrize(
    ("findings", "error", "line"),
    [
        (Findings(ray="2.9.0"), ClusterError, "Ray is 2.9.0 there and"),
        (Findings(python="3.8.1"), ClusterError, "Python is 3.8.1 there and"),
        (
            Findings(refusals=("node 10.0.0.7 lacks timm>=1.0.15 (there is none)",)),
            ClusterError,
            "node 10.0.0.7 lacks timm",
        ),
        (
            Findings(problems=(Problem("resources.gpus", "0", "0.25, and no GPU", file="s", line=3),)),
            BadInput,
            "tiny.yaml on http://head:8265: resources.gpus: expected 0, got 0.25, and no GPU",
        ),
    ],
)
def test_a_cluster_that_cannot_run_it_is_not_sent_it(
    cluster: type[FakeJobClient], findings: Findings, error: type[Exception], line: str
) -> None:
    cluster.findings = findings
    with pytest.raises(error) as raised:
        sent(new_submission(SPACE, {}))
    assert line in str(raised.value)
    assert not cluster.sent


def test_a_patch_version_may_differ(cluster: type[FakeJobClient]) -> None:
    cluster.findings = Findings(python=".".join([*Findings().python.split(".")[:2], "99"]), nodes=1)
    sent(new_submission(SPACE, {}))
    assert len(cluster.sent) == 1


def test_a_cluster_that_reports_nothing_is_an_error(
    cluster: type[FakeJobClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "run_small_job", lambda *_: "hello\n")
    with pytest.raises(ClusterError, match="http://head:8265 reported nothing"):
        sent(new_submission(SPACE, {}))


def test_a_dry_run_returns_the_findings_and_sends_no_job(cluster: type[FakeJobClient]) -> None:
    assert sent(new_submission(SPACE, {}), dry_run=True) == cluster.findings
    assert not cluster.sent


def test_a_name_is_used_once(cluster: type[FakeJobClient]) -> None:
    cluster.known.append(job(status="SUCCEEDED"))
    with pytest.raises(BadInput, match="--name: expected a new name, or --resume mine"):
        sent(new_submission(SPACE, {}, name="mine"))


def test_a_job_that_runs_is_not_resumed(cluster: type[FakeJobClient]) -> None:
    cluster.known.append(job())
    with pytest.raises(BadInput, match="expected a job that has ended or was stopped, got 'mine', which is running"):
        sent(new_submission(SPACE, {}, resume="mine"))
    assert not cluster.small_jobs


def test_without_a_name_the_experiments_is_part_of_a_new_one() -> None:
    assert new_submission(SPACE, {}).name.startswith("tiny-")
    assert new_submission(SPACE, {"name": "other"}).name.startswith("other-")
