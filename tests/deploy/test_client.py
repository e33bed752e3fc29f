from __future__ import annotations

from pathlib import Path

import pytest

from deploy.client import connect, follow
from deploy.job_server import ClusterError
from deploy.output import Output
from tests.deploy.fakes import FakeJobClient, job
from trainables.errors import BadInput

pytestmark = pytest.mark.usefixtures("cluster")


def followed(cluster: type[FakeJobClient], breaks: BaseException | None = None) -> object:
    cluster.known.append(job())
    cluster.breaks = breaks
    return follow(connect("http://head:8265", None, 30.0), "mine", Output(as_json=False))


def test_ctrl_c_leaves_the_job_running_and_prints_the_commands_for_it(
    cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]
) -> None:
    assert followed(cluster, KeyboardInterrupt()) is None
    out = capsys.readouterr().out
    assert "mine goes on without this command" in out
    for verb in ("logs -f", "status", "stop", "result"):
        assert f"python -m deploy.submit {verb} mine --address http://head:8265" in out
    assert cluster.known[0].status == "RUNNING"


def test_a_job_is_followed_to_its_end(cluster: type[FakeJobClient], capsys: pytest.CaptureFixture[str]) -> None:
    cluster.ends = "FAILED"
    assert followed(cluster) == job(status="FAILED")
    assert capsys.readouterr().out.startswith("fold 1\nmine failed\ngo on with: python -m deploy.submit --space tiny")


def test_a_lost_cluster_is_an_error_that_says_how_to_resume(cluster: type[FakeJobClient]) -> None:
    with pytest.raises(ClusterError, match=r"gone; what is finished is kept, go on with: .* --resume mine"):
        followed(cluster, ClusterError("gone"))


def test_a_token_that_others_could_read_on_its_way_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    note = "note: the token goes to head unencrypted"
    connect("http://head:8265", None, 30.0)
    assert note in capsys.readouterr().err
    for address in ("https://head:8265", "http://127.0.0.1:8265"):
        connect(address, None, 30.0)
        assert note not in capsys.readouterr().err


def test_a_missing_file_of_certificates_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--ca-file: expected a file of certificates"):
        connect("https://head:8265", tmp_path / "none.pem", 30.0)
    (tmp_path / "ca.pem").touch()
    assert connect("https://head:8265", tmp_path / "ca.pem", 30.0).access.verify == str(tmp_path / "ca.pem")
