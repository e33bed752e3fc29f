"""The client of the job server, against one that is scripted to be slow, to break off and to decline."""

from __future__ import annotations

import http.server
import json
import os
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobType

from deploy import job_server
from deploy.job import PROJECT
from deploy.job_server import Access, ClusterError, JobClient, check_address
from tests.deploy.test_job import METADATA
from trainables.errors import BadInput

LOG = "Running entrypoint\nfold 1\nfold 2\nfound\n"


class Server:
    """Stands in for Ray's JobSubmissionClient. `tails` are what each connection to the log says before it ends; an
    exception ends it that way. `fails` are raised by the next calls, one each."""

    fails: ClassVar[list[Exception]] = []

    def __init__(self, address: str, headers: dict[str, str], verify: str | bool) -> None:
        self._fail()
        self.address, self.headers, self.verify = address, headers, verify
        self.status = JobStatus.RUNNING
        self.jobs: list[JobDetails] = []
        self.tails: list[list[str | Exception]] = []
        self.submitted: list[dict[str, Any]] = []

    def _fail(self) -> None:
        if self.fails:
            raise self.fails.pop(0)

    def list_jobs(self) -> list[JobDetails]:
        self._fail()
        return self.jobs

    def get_job_info(self, submission_id: str) -> JobDetails:
        self._fail()
        return details(submission_id, status=self.status)

    def get_job_logs(self, submission_id: str) -> str:
        self._fail()
        return LOG

    def stop_job(self, submission_id: str) -> None:
        self.status = JobStatus.STOPPED

    def delete_job(self, submission_id: str) -> None: ...

    def submit_job(self, **job: Any) -> None:
        self._fail()
        self.submitted.append(job)

    async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        said = self.tails.pop(0)
        if not self.tails:
            self.status = JobStatus.SUCCEEDED
        for text in said:
            if isinstance(text, Exception):
                raise text
            yield text


def details(submission_id: str, status: JobStatus = JobStatus.RUNNING, **changes: Any) -> JobDetails:
    metadata = PROJECT | METADATA.model_dump() | changes
    start = changes.pop("start", 1000)
    return JobDetails(
        type=JobType.SUBMISSION,
        submission_id=submission_id,
        status=status,
        entrypoint="",
        metadata={key: value for key, value in metadata.items() if value is not None and key != "start"},
        start_time=start,
    )


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_server, "JobSubmissionClient", Server)
    monkeypatch.setattr(job_server, "POLL_S", 0.0)
    monkeypatch.setattr(Server, "fails", [])
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def opened(**changes: Any) -> tuple[JobClient, Server]:
    cluster = JobClient(Access("http://head:8265", **changes))
    server: Any = cluster._client
    return cluster, server


def followed(*tails: list[str | Exception]) -> str:
    cluster, server = opened()
    server.tails = list(tails)
    shown: list[str] = []
    cluster.follow("mine", shown.append)
    return "".join(shown)


def test_a_log_is_shown_as_it_comes() -> None:
    assert followed([LOG[:10], LOG[10:]]) == LOG


@pytest.mark.parametrize("cut", range(0, len(LOG) + 1, 5))
def test_a_lost_connection_is_made_anew_and_no_line_comes_twice(cut: int) -> None:
    lost = RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
    assert followed([LOG[:cut], lost], [LOG[:3], LOG[3:20], ConnectionError()], [LOG[:25], LOG[25:]]) == LOG


def test_what_the_connection_missed_at_the_end_is_read_from_the_log() -> None:
    assert followed([LOG[:15]]) == LOG


def test_a_connection_that_says_nothing_any_more_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_server, "RECONNECT_AFTER_S", 0.01)
    cluster, server = opened()
    calls = []

    async def tail(submission_id: str) -> AsyncIterator[str]:
        calls.append(submission_id)
        yield LOG[:10]
        if len(calls) == 1:
            await job_server.asyncio.sleep(60)
        server.status = JobStatus.SUCCEEDED

    server.tail_job_logs = tail  # type: ignore[method-assign]
    shown: list[str] = []
    cluster.follow("mine", shown.append)
    assert "".join(shown) == LOG
    assert len(calls) == 2


def test_a_cluster_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_server, "UNREACHABLE_AFTER_S", -1.0)
    cluster, server = opened(wait_s=-1.0)
    server.tails = [[LOG[:10], ConnectionError()], []]
    Server.fails += [ConnectionError("refused")]
    with pytest.raises(ClusterError, match=r"the cluster no longer answers \(nothing answers at http://head:8265\)"):
        cluster.follow("mine", lambda text: None)


def test_a_head_that_is_just_starting_is_waited_for() -> None:
    Server.fails += [
        ConnectionError("refused"),
        RuntimeError("Request failed with status code 500: No available agent to submit job."),
    ]
    cluster, server = opened()
    Server.fails += [RuntimeError("Request failed with status code 500: No available agent to submit job.")]
    cluster.submit("true", "mine", Path("package.zip"), {}, METADATA)
    assert len(server.submitted) == 1


def test_but_not_for_ever() -> None:
    Server.fails += [ConnectionError("refused")] * 5
    with pytest.raises(ClusterError, match="nothing answers at http://head:8265"):
        opened(wait_s=-1.0)
    assert len(Server.fails) == 4


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "Authentication required: Unauthorized: Missing\n\nmany lines",
            "http://head:8265 wants a token: set RAY_AUTH",
        ),
        ("Authentication failed: Forbidden: Invalid\n\nmany lines", "http://head:8265 refuses this token"),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_one_line_at_once(said: str, line: str) -> None:
    Server.fails += [AuthenticationError(said)] * 2
    with pytest.raises(ClusterError, match=line) as refused:
        opened()
    assert "\n" not in str(refused.value)
    assert len(Server.fails) == 1


def test_what_will_not_pass_is_said_at_once() -> None:
    cluster, _ = opened()
    Server.fails += [RuntimeError("Request failed with status code 404: Job x does not exist.\nand more")] * 2
    with pytest.raises(
        ClusterError, match=r"http://head:8265: Request failed with status code 404: Job x does not exist.$"
    ):
        cluster.log("x")
    assert len(Server.fails) == 1


def test_the_address_given_is_the_one_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:8265")
    opened()
    assert not {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"} & os.environ.keys()


def test_a_token_is_sent_whatever_mode_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened()[1].headers == {}
    (tmp_path / "token").write_text("abc\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert opened()[1].headers == {"Authorization": "Bearer abc"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "def")
    assert opened()[1].headers == {"Authorization": "Bearer def"}


def test_a_token_file_that_is_not_there_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere")
    with pytest.raises(BadInput, match="RAY_AUTH_TOKEN_PATH"):
        opened()


@pytest.mark.parametrize("address", ["ray://head:10001", "head:8265", "auto", "http://", "ftp://head"])
def test_only_the_address_of_a_job_server_will_do(address: str) -> None:
    with pytest.raises(BadInput, match=r"http\(s\)://<head>:8265"):
        check_address(address)


def test_a_password_in_the_address_is_not_shown() -> None:
    assert str(Access("https://ada:pa55@head/ray")) == "https://head/ray"


def test_a_job_ends_as_ctrl_c_ends_it_and_has_no_place_of_its_own() -> None:
    cluster, server = opened()
    cluster.submit("exec python -m tuner.search", "mine", Path("package.zip"), {"A": "1"}, METADATA)
    (job,) = server.submitted
    assert job["runtime_env"]["env_vars"] == {
        "A": "1",
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": str(job_server.STOP_WAIT_S),
    }
    assert job["metadata"] == PROJECT | METADATA.model_dump()
    assert not [key for key in job if key.startswith("entrypoint_")]


def test_jobs_are_this_projects_oldest_first() -> None:
    cluster, server = opened()
    server.jobs = [
        details("b", start=3000),
        details("a", start=2000, name="first"),
        details("other", project="another"),
        details("small", name=None),
    ]
    assert [job.id for job in cluster.jobs()] == ["a", "b"]


def test_of_several_jobs_of_a_name_the_latest_counts() -> None:
    cluster, server = opened()
    server.jobs = [details("mine-2", start=3000), details("mine", start=2000), details("x", name="x", start=4000)]
    assert cluster.newest("mine").id == "mine-2"
    assert cluster.newest("mine").started_s == 3.0
    with pytest.raises(BadInput, match=r"expected a job of http://head:8265 \(mine, x\), got 'yours'"):
        cluster.newest("yours")


def test_an_id_is_given_once() -> None:
    cluster, server = opened()
    assert cluster.unused_id("mine") == "mine"
    server.jobs = [details("mine", project="another"), details("mine-2")]
    assert cluster.unused_id("mine") == "mine-3"


def test_a_small_job_that_fails_says_its_last_line() -> None:
    cluster, server = opened()
    server.status = JobStatus.FAILED
    with pytest.raises(ClusterError, match="`exec python` failed on http://head:8265: found"):
        cluster.run_small_job("exec python", "look", Path("package.zip"), {})
    server.status = JobStatus.SUCCEEDED
    assert cluster.run_small_job("exec python", "look", Path("package.zip"), {}) == LOG


def test_a_job_that_will_not_stop_is_said_to_be_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_server, "STOP_TIMEOUT_S", -1.0)
    monkeypatch.setattr(Server, "stop_job", lambda self, submission_id: None)
    cluster, _ = opened()
    with pytest.raises(ClusterError, match="mine is still RUNNING"):
        cluster.stop("mine")


class Handler(http.server.BaseHTTPRequestHandler):
    """As much of a job server as is asked before the first job."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"version": "4", "ray_version": "2.60.0"}).encode())

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a real server, and the certificate that it signed itself."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}", certificate
        server.shutdown()


def test_a_certificate_must_be_trusted(tls: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.job_submission import JobSubmissionClient

    monkeypatch.setattr(job_server, "JobSubmissionClient", JobSubmissionClient)
    address, certificate = tls
    JobClient(Access(address, verify=str(certificate)))
    with pytest.raises(ClusterError, match=r"its certificate is not trusted \(--ca-file FILE\)"):
        JobClient(Access(address))
