"""A cluster's job server: one small client on Ray's own, which says in one line why something cannot be."""

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

from trainables.errors import BadInput, Problem
from tuner.messages.redaction import reason, without_credentials

for module in ("dashboard_sdk", "job.sdk"):  # which tell of every upload
    logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.WARNING)

PROJECT = "smile-tuner"
"""Marks our jobs among those of others."""

METADATA = {"name", "user", "space", "experiment", "directory", "tracking"}
"""What a job says of itself; everyone who reaches the cluster can read it."""

POLL_S = 0.5
QUIET_S = 60.0
"""After so long without a new line, the connection is made anew: a dead one says nothing, either."""
LOST_S = 90.0
"""How long a cluster may be away before following it is given up. Ray's own processes take up to 70 s to give up."""
STOP_WAIT_S = 30
"""How long a search that is told to stop has for its journal and MLflow before it is killed."""
STOPPING_S = STOP_WAIT_S + 30.0
HELPER_S = 300.0
"""How long a small job beside the search may take, the start of its environment included."""

Result = TypeVar("Result")


class Refused(Exception):
    """The cluster cannot be reached, or will not do it; in one line."""


@dataclass(frozen=True)
class Access:
    """Where a cluster's job server is, and how it is talked to. `verify` is a file of trusted certificates, or whether
    certificates are checked at all; `wait_s` is how long it may take to come up."""

    address: str
    verify: str | bool = True
    wait_s: float = 30.0

    def __str__(self) -> str:
        return without_credentials(self.address)


def check_address(address: str) -> str:
    """Raises BadInput unless `address` is that of a job server."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        expected = "the address of the cluster's dashboard, http(s)://<head>:8265"
        raise BadInput(Problem("--address", expected, repr(without_credentials(address))))
    return address


@dataclass(frozen=True)
class Job:
    """One of our jobs. `name` is the user's, which a job that goes on with another shares; `id` is Ray's, and unique.
    Times are Unix seconds."""

    name: str
    id: str
    status: str
    user: str
    space: str
    experiment: str
    directory: str
    tracking: str
    message: str
    started_s: float | None
    ended_s: float | None
    driver_exit_code: int | None

    @classmethod
    def of(cls, details: JobDetails) -> Job | None:
        """Ray's description read; None where it is no job of ours, or one of the small ones beside a search."""
        metadata = details.metadata or {}
        if metadata.get("project") != PROJECT or not metadata.keys() >= METADATA:
            return None
        return cls(
            **{key: metadata[key] for key in METADATA},
            id=str(details.submission_id),
            status=details.status.value,
            message=next(iter((details.message or "").splitlines()), ""),
            started_s=details.start_time / 1000 if details.start_time else None,
            ended_s=details.end_time / 1000 if details.end_time else None,
            driver_exit_code=details.driver_exit_code,
        )

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of it runs any more."""
        return JobStatus(self.status).is_terminal()


class Cluster:
    """The jobs of one cluster. Every method raises Refused where the cluster cannot be reached or declines."""

    def __init__(self, access: Access) -> None:
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            os.environ.pop(name, None)  # Ray lets them override the address that it is given
        self.access = access
        self._client: JobSubmissionClient = self._patiently(self._connect)

    def _connect(self) -> JobSubmissionClient:
        return JobSubmissionClient(self.access.address, headers=token_header(), verify=self.access.verify)

    def submit(
        self, entrypoint: str, submission_id: str, archive: Path, environment: dict[str, str], metadata: dict[str, str]
    ) -> None:
        """Starts a job in the unpacked archive, on the head: without resources of its own, nothing moves it away.

        `environment` and `metadata` can be read by everyone who reaches the cluster.
        """
        environment = environment | {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
        runtime_env = {"working_dir": str(archive), "env_vars": environment}

        def submit() -> None:
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=submission_id,
                runtime_env=runtime_env,
                metadata=metadata | {"project": PROJECT},
            )

        self._patiently(submit)

    def jobs(self) -> list[Job]:
        """Our jobs, oldest first."""
        jobs = [job for job in map(Job.of, self._all_jobs()) if job is not None]
        return sorted(jobs, key=lambda job: job.started_s or 0.0)

    def free_id(self, name: str) -> str:
        """`name`, or where a job has it already, the name with a number: Ray gives every id once."""
        taken = {job.submission_id for job in self._all_jobs()}
        numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(id for id in numbered if id not in taken)

    def _all_jobs(self) -> list[JobDetails]:
        return list(self._patiently(self._client.list_jobs))

    def newest(self, name: str) -> Job:
        """The latest job of that name. Raises BadInput where there is none."""
        all_jobs = self.jobs()
        jobs = [job for job in all_jobs if job.name == name]
        if not jobs:
            known = ", ".join(dict.fromkeys(job.name for job in all_jobs)) or "there are none"
            raise BadInput(Problem("NAME", f"a job of {self.access}: {known}", repr(name)))
        return jobs[-1]

    def _info(self, submission_id: str) -> JobDetails:
        return self._patiently(lambda: self._client.get_job_info(submission_id))

    def log(self, submission_id: str) -> str:
        """All that the job has printed."""
        return str(self._patiently(lambda: self._client.get_job_logs(submission_id)))

    def stop(self, submission_id: str) -> None:
        """Asks the job to end, as Ctrl-C would, and waits until it has."""
        self._patiently(lambda: self._client.stop_job(submission_id))
        self._ended(submission_id, STOPPING_S)

    def helper(self, entrypoint: str, submission_id: str, archive: Path, environment: dict[str, str]) -> str:
        """Runs a small job to its end and gives its log; of the job, nothing stays."""
        self.submit(entrypoint, submission_id, archive, environment, {})
        ended = self._ended(submission_id, HELPER_S)
        log = self.log(submission_id)
        with contextlib.suppress(Exception):
            self._client.delete_job(submission_id)
        if ended.status != JobStatus.SUCCEEDED:
            lines = [line for line in (log or ended.message or "").splitlines() if line.strip()]
            raise Refused(
                f"`{entrypoint}` could not be run there: {lines[-1].strip() if lines else ended.status.value}"
            )
        return log

    def _ended(self, submission_id: str, timeout_s: float) -> JobDetails:
        deadline = time.monotonic() + timeout_s
        while not (info := self._info(submission_id)).status.is_terminal():
            if time.monotonic() > deadline:
                raise Refused(f"{submission_id} is still {info.status.value} after {timeout_s:.0f} s: {info.message}")
            time.sleep(POLL_S)
        return info

    def follow(self, submission_id: str, show: Callable[[str], None]) -> None:
        """Shows what the job prints, each character once, until it has ended; a lost connection is made anew.

        Raises:
            Refused: once the cluster has been away for `LOST_S`.
        """
        asyncio.run(self._follow(submission_id, show))

    async def _follow(self, submission_id: str, show: Callable[[str], None]) -> None:
        shown = 0
        last_answer = time.monotonic()
        while True:
            with contextlib.suppress(RuntimeError, OSError, TimeoutError, aiohttp.ClientError):
                seen = 0  # a log is always told from its beginning
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
            except Refused as refused:
                if time.monotonic() - last_answer > LOST_S:
                    raise Refused(f"the cluster no longer answers ({refused})") from None
            await asyncio.sleep(POLL_S)

    async def _tail(self, submission_id: str) -> AsyncIterator[str]:
        """Ray's own, but for a connection that says nothing any more."""
        lines = self._client.tail_job_logs(submission_id)
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield await asyncio.wait_for(anext(lines), QUIET_S)

    def _patiently(self, call: Callable[[], Result]) -> Result:
        """Repeats what a head that is just starting does not do yet: answer, or have an agent for jobs."""
        deadline = time.monotonic() + self.access.wait_s
        while True:
            try:
                return call()
            except (OSError, RuntimeError, AuthenticationError) as error:
                if time.monotonic() > deadline or not _may_pass(error):
                    raise Refused(self._why(error)) from None
                time.sleep(POLL_S)

    def _why(self, error: Exception) -> str:
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


def _may_pass(error: Exception) -> bool:
    """Whether it is worth while to ask again: nobody there yet, or an error of the server's own."""
    if isinstance(error, ConnectionError | requests.ConnectionError):
        return not isinstance(error.__context__ or error, requests.exceptions.SSLError)
    return "status code 5" in str(error)


def token_header() -> dict[str, str]:
    """The token that this command was given, if any. Ray itself would send it only with RAY_AUTH_MODE=token, and then
    adds that of ~/.ray/auth_token where there is no other."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if not token and (file := os.environ.get("RAY_AUTH_TOKEN_PATH")):
        try:
            token = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise BadInput(Problem("RAY_AUTH_TOKEN_PATH", "a file that can be read", f"{file}: {error}")) from None
    return {"Authorization": f"Bearer {token.strip()}"} if token else {}
