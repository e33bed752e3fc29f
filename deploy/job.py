"""One of this project's jobs on a cluster: its name, and its description among Ray's."""

from __future__ import annotations

import datetime
import re
import secrets

from pydantic import ValidationError
from ray.job_submission import JobDetails, JobStatus

from trainables.errors import BadInput, Problem
from trainables.frozen import Frozen

PROJECT = {"project": "smile-tuner"}
"""Metadata by which this project's jobs differ from other jobs of the cluster."""

# A name is part of a URL, a folder on shared storage, and of Kubernetes' objects (at most 47 for a RayJob).
JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")
STEM_LENGTH = 27
"""How many characters of the experiment's name a generated job name keeps; time and random digits take the rest."""


class JobMetadata(Frozen):
    """What Ray stores of a job for us; everyone who reaches the cluster can read it.

    `name` is the user's, which a job shares with the one that it resumes; `space` is the name of the experiment's file;
    `directory` is the job's folder on the cluster, `mirror` its copy in an object store (empty: none); `tracking` is
    the MLflow address that the job was given (empty: that of its nodes).
    """

    name: str
    user: str
    space: str
    experiment: str
    directory: str
    mirror: str
    tracking: str


class Job(JobMetadata):
    """A job as Ray describes it. `id` is Ray's, and unique; `status` is one of Ray's `JobStatus`; times are Unix
    seconds."""

    id: str
    status: str
    message: str = ""
    started_s: float | None = None
    ended_s: float | None = None
    driver_exit_code: int | None = None

    @classmethod
    def of(cls, details: JobDetails) -> Job | None:
        """Reads Ray's description; None for a job of another project, or a small one beside a search."""
        stored = details.metadata or {}
        if not stored.items() >= PROJECT.items():
            return None
        try:
            metadata = JobMetadata.model_validate(
                {key: stored[key] for key in stored if key in JobMetadata.model_fields}
            )
        except ValidationError:
            return None
        return cls(
            **metadata.model_dump(),
            id=str(details.submission_id),
            status=details.status.value,
            message=next(iter((details.message or "").splitlines()), ""),
            started_s=details.start_time / 1000 if details.start_time else None,
            ended_s=details.end_time / 1000 if details.end_time else None,
            driver_exit_code=details.driver_exit_code,
        )

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return JobStatus(self.status).is_terminal()


def check_job_name(name: str) -> str:
    """Returns `name` if a job can have it: then it escapes neither its URL nor its folder. Raises BadInput."""
    if not JOB_NAME.fullmatch(name):
        expected = "at most 47 lower-case letters, digits and '-', a letter first, and no '-' at the end"
        raise BadInput(Problem("the job's name", expected, repr(name)))
    return name


def new_job_name(experiment: str) -> str:
    """Generates a name: the experiment's, the time, and four random digits.

    >>> new_job_name("SMILE on digits")  # doctest: +SKIP
    'smile-on-digits-261124-180018-3f9a'
    """
    stem = re.sub(r"[^a-z0-9]+", "-", experiment.lower()).strip("-")[:STEM_LENGTH].strip("-")
    if not stem[:1].isalpha():
        stem = f"job-{stem}"[:STEM_LENGTH].strip("-")
    return f"{stem}-{datetime.datetime.now():%y%m%d-%H%M%S}-{secrets.token_hex(2)}"
