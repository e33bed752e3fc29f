"""Client of a cluster's job server, on top of Ray's own: retries, follows logs, and reports each error in one line."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from deploy.job import PROJECT, Job, JobMetadata
from trainables.errors import BadInput, Problem
from tuner.messages.redaction import reason, without_credentials

for module in ("dashboard_sdk", "job.sdk"):  # which log every upload
    logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.WARNING)

POLL_S = 0.5
RECONNECT_AFTER_S = 60.0
"""How long a log may be without a new line before it is connected to anew: a dead connection is as silent."""
UNREACHABLE_AFTER_S = 90.0
"""How long a cluster may be unreachable before it is no longer followed. Ray's own processes give up after 70 s."""
STOP_WAIT_S = 30
"""How long a search that is told to stop has for its journal and MLflow before it is killed."""
STOP_TIMEOUT_S = STOP_WAIT_S + 30.0
SMALL_JOB_TIMEOUT_S = 300.0
"""How long a small job beside the search may take, the start of its environment included."""

Result = TypeVar("Result")


class ClusterError(Exception):
    """The cluster cannot be reached, or declines; the message is one line."""


@dataclass(frozen=True)
class Access:
    """Address of a cluster's job server, and how to connect. `verify` is a file of trusted certificates, or whether
    certificates are checked at all; `wait_s` is how long the server may take to answer."""

    address: str
    verify: str | bool = True
    wait_s: float = 30.0

    def __str__(self) -> str:
        return without_credentials(self.address)


def check_address(address: str) -> str:
    """Returns `address` if it is that of a job server. Raises BadInput."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        expected = "the address of the cluster's dashboard, http(s)://<head>:8265"
        raise BadInput(Problem("--address", expected, repr(without_credentials(address))))
    return address


class JobClient:
    """The jobs of one cluster. Every method raises ClusterError where the cluster cannot be reached or declines."""

    def __init__(self, access: Access) -> None:
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            os.environ.pop(name, None)  # Ray lets them override the address that it is given
        self.access = access
        self._client: JobSubmissionClient = self._retried(self._connect)

    def _connect(self) -> JobSubmissionClient:
        return JobSubmissionClient(self.access.address, headers=token_header(), verify=self.access.verify)

    def submit(
        self,
        entrypoint: str,
        submission_id: str,
        archive: Path,
        environment: dict[str, str],
        metadata: JobMetadata | None = None,
    ) -> None:
        """Starts a job in the unpacked archive, on the head, as it asks for no resources.

        `environment` and `metadata` can be read by everyone who reaches the cluster. `jobs` leaves out a job without
        `metadata`.
        """
        environment = environment | {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
        runtime_env = {"working_dir": str(archive), "env_vars": environment}

        def submit() -> None:
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=submission_id,
                runtime_env=runtime_env,
                metadata=PROJECT | (metadata.model_dump() if metadata is not None else {}),
            )

        self._retried(submit)

    def jobs(self) -> list[Job]:
        """This project's jobs, oldest first."""
        jobs = [job for job in map(Job.of, self._all_jobs()) if job is not None]
        return sorted(jobs, key=lambda job: job.started_s or 0.0)

    def unused_id(self, name: str) -> str:
        """`name`, or the name with a number where a job has that id already: Ray accepts every id once."""
        taken = {job.submission_id for job in self._all_jobs()}
        numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(id for id in numbered if id not in taken)

    def _all_jobs(self) -> list[JobDetails]:
        return list(self._retried(self._client.list_jobs))

    def newest(self, name: str) -> Job:
        """The latest job of that name. Raises BadInput where there is none."""
        all_jobs = self.jobs()
        jobs = [job for job in all_jobs if job.name == name]
        if not jobs:
            known = ", ".join(dict.fromkeys(job.name for job in all_jobs)) or "it has none"
            raise BadInput(Problem("NAME", f"a job of {self.access} ({known})", repr(name)))
        return jobs[-1]

    def _info(self, submission_id: str) -> JobDetails:
        return self._retried(lambda: self._client.get_job_info(submission_id))

    def log(self, submission_id: str) -> str:
        """Everything that the job has printed."""
        return str(self._retried(lambda: self._client.get_job_logs(submission_id)))

    def stop(self, submission_id: str) -> None:
        """Interrupts the job as Ctrl-C would, and waits until it has ended."""
        self._retried(lambda: self._client.stop_job(submission_id))
        self._wait_for(submission_id, STOP_TIMEOUT_S)

    def run_small_job(self, entrypoint: str, submission_id: str, archive: Path, environment: dict[str, str]) -> str:
        """Runs a small job to its end, deletes it, and returns its log."""
        self.submit(entrypoint, submission_id, archive, environment)
        ended = self._wait_for(submission_id, SMALL_JOB_TIMEOUT_S)
        log = self.log(submission_id)
        with contextlib.suppress(Exception):
            self._client.delete_job(submission_id)
        if ended.status != JobStatus.SUCCEEDED:
            lines = [line for line in (log or ended.message or "").splitlines() if line.strip()]
            why = lines[-1].strip() if lines else ended.status.value
            raise ClusterError(f"`{entrypoint}` failed on {self.access}: {why}")
        return log

    def _wait_for(self, submission_id: str, timeout_s: float) -> JobDetails:
        deadline = time.monotonic() + timeout_s
        while not (info := self._info(submission_id)).status.is_terminal():
            if time.monotonic() > deadline:
                what = f"{submission_id} is still {info.status.value} after {timeout_s:.0f} s"
                raise ClusterError(f"{what}: {info.message}")
            time.sleep(POLL_S)
        return info

    def follow(self, submission_id: str, show: Callable[[str], None]) -> None:
        """Passes what the job prints to `show`, each character once, until it has ended; reconnects where it must.

        Raises:
            ClusterError: once the cluster has been unreachable for `UNREACHABLE_AFTER_S`.
        """
        asyncio.run(self._follow(submission_id, show))

    async def _follow(self, submission_id: str, show: Callable[[str], None]) -> None:
        shown = 0
        last_answer = time.monotonic()
        while True:
            with contextlib.suppress(RuntimeError, OSError, TimeoutError, aiohttp.ClientError):
                seen = 0  # a connection sends the log from its beginning
                async for text in self._tail(submission_id):
                    last_answer = time.monotonic()
                    seen += len(text)
                    if seen > shown:
                        show(text[max(0, len(text) - (seen - shown)) :])
                        shown = seen
            try:
                info = self._info(submission_id)
                if info.status.is_terminal():
                    show(self.log(submission_id)[shown:])
                    return
                last_answer = time.monotonic()
            except ClusterError as error:
                if time.monotonic() - last_answer > UNREACHABLE_AFTER_S:
                    raise ClusterError(f"the cluster no longer answers ({error})") from None
            await asyncio.sleep(POLL_S)

    async def _tail(self, submission_id: str) -> AsyncIterator[str]:
        """Ray's own tail of a log. Raises TimeoutError where no line comes for `RECONNECT_AFTER_S`."""
        lines = self._client.tail_job_logs(submission_id)
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield await asyncio.wait_for(anext(lines), RECONNECT_AFTER_S)

    def _retried(self, call: Callable[[], Result]) -> Result:
        """Repeats `call` for `access.wait_s` while its error may be that of a head that is just starting."""
        deadline = time.monotonic() + self.access.wait_s
        while True:
            try:
                return call()
            except (OSError, RuntimeError, AuthenticationError) as error:
                if time.monotonic() > deadline or not _is_transient(error):
                    raise ClusterError(self._message(error)) from None
                time.sleep(POLL_S)

    def _message(self, error: Exception) -> str:
        if isinstance(error, AuthenticationError):
            missing = "Authentication required" in str(error)
            advice = "wants a token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH" if missing else "refuses this token"
            return f"{self.access} {advice}"
        cause = error.__context__ if isinstance(error.__context__, requests.RequestException) else error
        if isinstance(cause, requests.exceptions.SSLError):
            return f"{self.access}: its certificate is not trusted (--ca-file FILE): {reason(cause)}"
        if isinstance(cause, ConnectionError | requests.ConnectionError):
            return f"nothing answers at {self.access}"
        return f"{self.access}: {reason(error)}"


def _is_transient(error: Exception) -> bool:
    """Whether a retry may succeed: nothing answers yet, or the server reports an error of its own."""
    if isinstance(error, ConnectionError | requests.ConnectionError):
        return not isinstance(error.__context__ or error, requests.exceptions.SSLError)
    return "status code 5" in str(error)


def token_header() -> dict[str, str]:
    """The HTTP header with the token of RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH; empty without one. Raises BadInput.

    Ray itself would send the token only with RAY_AUTH_MODE=token, and adds that of ~/.ray/auth_token then.
    """
    token = os.environ.get("RAY_AUTH_TOKEN")
    if not token and (file := os.environ.get("RAY_AUTH_TOKEN_PATH")):
        try:
            token = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise BadInput(Problem("RAY_AUTH_TOKEN_PATH", "a readable file", f"{file}: {error}")) from None
    return {"Authorization": f"Bearer {token.strip()}"} if token else {}
