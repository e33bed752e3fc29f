from __future__ import annotations

from pathlib import Path

import pytest

from deploy.findings import Findings
from tests.deploy.fakes import FakeJobClient
from tests.tuner.tiny import write_yaml


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeJobClient]:
    """The job server that `deploy.submit` reaches; the working folder holds tiny.yaml, whose results go to `shared`."""
    monkeypatch.setattr("deploy.client.JobClient", FakeJobClient)
    monkeypatch.setattr("deploy.prepare.check_experiment", lambda space: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    answers = {"known": [], "sent": [], "small_jobs": [], "ends": "SUCCEEDED", "breaks": None}
    for name, value in (answers | {"findings": Findings(nodes=3, cpus=8, gpus=2, directory="/shared/mine")}).items():
        monkeypatch.setattr(FakeJobClient, name, value)
    write_yaml(tmp_path, tracking={"directory": str(tmp_path / "shared")})
    return FakeJobClient
