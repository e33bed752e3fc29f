from __future__ import annotations

import re
from typing import Any

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from deploy.job import JOB_NAME, PROJECT, Job, JobMetadata, check_job_name, new_job_name
from tests.deploy.fakes import JOB
from trainables.errors import BadInput

METADATA = JobMetadata(**{key: getattr(JOB, key) for key in JobMetadata.model_fields})


def details(metadata: dict[str, str] | None, **changes: Any) -> JobDetails:
    fields = {"type": JobType.SUBMISSION, "submission_id": "mine-2", "status": JobStatus.RUNNING, "entrypoint": ""}
    return JobDetails(**(fields | {"metadata": metadata} | changes))


def test_a_job_is_read_from_rays_description() -> None:
    ended = {"status": JobStatus.FAILED, "start_time": 1000, "end_time": 3500, "message": "why\nand where"}
    job = Job.of(details(PROJECT | METADATA.model_dump() | {"added": "by Ray"}, driver_exit_code=3, **ended))
    assert job is not None
    assert (job.name, job.id, job.directory) == ("mine", "mine-2", JOB.directory)
    assert (job.status, job.message, job.started_s, job.ended_s) == ("FAILED", "why", 1.0, 3.5)
    assert (job.driver_exit_code, job.has_ended) == (3, True)


@pytest.mark.parametrize(
    "metadata",
    [None, {}, PROJECT, METADATA.model_dump(), METADATA.model_dump() | {"project": "another"}],
    ids=["a driver", "no metadata", "a small job", "no project", "another project"],
)
def test_other_jobs_are_not_ours(metadata: dict[str, str] | None) -> None:
    assert Job.of(details(metadata)) is None


def test_a_job_that_runs_has_not_ended() -> None:
    assert not JOB.has_ended


@pytest.mark.parametrize("name", ["a", "smile-digits-2", "a" * 47])
def test_names_that_a_job_can_have(name: str) -> None:
    assert check_job_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "A", "-a", "a-", "1a", "a.b", "a b", "a\n", "ä", "a" * 48, "%2e"]
)
def test_names_that_would_escape_or_confuse(name: str) -> None:
    with pytest.raises(BadInput, match="the job's name"):
        check_job_name(name)


@pytest.mark.parametrize("experiment", ["smile-digits", "A.b_c", "1st", "___", "x" * 100, "-", "a" * 26 + "-b"])
def test_made_up_names_are_names_and_nobody_elses(experiment: str) -> None:
    names = {new_job_name(experiment) for _ in range(20)}
    assert len(names) > 15
    assert all(JOB_NAME.fullmatch(name) for name in names)
    assert all(re.search(r"-\d{6}-\d{6}-[0-9a-f]{4}$", name) for name in names)
