"""Fixtures for jobs on Ray."""

from __future__ import annotations

import pytest

from tests.tuner.cluster.fake_ray import FakeRay
from tuner.cluster import job_places, tasks


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(tasks, "ray", fake)
    monkeypatch.setattr(job_places, "ray", fake)
    return fake
