"""Stands in for a cluster's job server, and for the directory of a run."""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploy.findings import Findings
from deploy.job import Job, JobMetadata
from deploy.job_server import Access
from tests.tuner.tiny import add_trial, search_journal
from trainables.errors import BadInput, Problem
from tuner.record.directory import RunDirectory

JOB = Job(
    name="mine",
    user="ada",
    space="tiny.yaml",
    experiment="tiny",
    directory="/nowhere/mine",
    mirror="",
    tracking="",
    id="mine",
    status="RUNNING",
    started_s=1000.0,
)


@dataclass(frozen=True)
class Sent:
    """One call of `FakeJobClient.submit`; `files` are the contents of the archive."""

    entrypoint: str
    files: dict[str, bytes]
    environment: dict[str, str]
    metadata: JobMetadata


@dataclass
class FakeJobClient:
    """Stands in for `JobClient`. What is asked of it, and how it answers, is the class's: the command makes its own
    object."""

    access: Access
    known: ClassVar[list[Job]] = []
    findings: ClassVar[Findings] = Findings(nodes=3, cpus=8, gpus=2)
    ends: ClassVar[str] = "SUCCEEDED"
    breaks: ClassVar[BaseException | None] = None
    sent: ClassVar[list[Sent]] = []
    small_jobs: ClassVar[list[list[str]]] = []

    def jobs(self) -> list[Job]:
        return self.known

    def newest(self, name: str) -> Job:
        jobs = [job for job in self.known if job.name == name]
        if not jobs:
            raise BadInput(Problem("NAME", "a job", repr(name)))
        return jobs[-1]

    def unused_id(self, name: str) -> str:
        return f"{name}-2" if self.known else name

    def run_small_job(self, entrypoint: str, submission_id: str, archive: Path, environment: dict[str, str]) -> str:
        self.small_jobs.append(shlex.split(entrypoint))
        return f"hello\n{self.findings.as_line()}\n"

    def submit(
        self, entrypoint: str, submission_id: str, archive: Path, environment: dict[str, str], metadata: JobMetadata
    ) -> None:
        with zipfile.ZipFile(archive) as file:
            files = {name: file.read(name) for name in file.namelist()}
        self.sent.append(Sent(entrypoint, files, environment, metadata))
        self.known.append(JOB.model_copy(update=metadata.model_dump() | {"id": submission_id}))

    def follow(self, submission_id: str, show: Callable[[str], None]) -> None:
        show("fold 1\n")
        if self.breaks is not None:
            raise self.breaks
        self._end(submission_id)

    def log(self, submission_id: str) -> str:
        return "fold 1\n"

    def stop(self, submission_id: str) -> None:
        type(self).ends = "STOPPED"
        self._end(submission_id)

    def _end(self, submission_id: str) -> None:
        ended = {"status": self.ends}
        self.known[:] = [job.model_copy(update=ended) if job.id == submission_id else job for job in self.known]


def job(**changes: object) -> Job:
    """`JOB` with other fields."""
    return JOB.model_copy(update=changes)


def begun_run(directory: Path, model: bool = True) -> RunDirectory:
    """A run of a job whose folder is `directory`, with one trial."""
    run = RunDirectory(directory / "tiny" / "20261124-100000")
    journal = search_journal(run.path)
    add_trial(journal, 0, [0.5, 0.7])
    journal.close()
    if model:
        run.model.mkdir()
        (run.model / "weights.pt").write_bytes(b"weights")
    return run
