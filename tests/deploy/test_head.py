from __future__ import annotations

from pathlib import Path

import pytest

from deploy import preflight
from deploy.findings import Findings
from deploy.head import main

FLAGS = ["--space", "nowhere.yaml", "--job", "mine"]


def printed(capsys: pytest.CaptureFixture[str]) -> Findings | None:
    return Findings.from_log(capsys.readouterr().out)


def test_a_head_without_the_packages_reports_that_and_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=99"]\n')
    monkeypatch.chdir(tmp_path)
    assert main(FLAGS) == 0
    found = printed(capsys)
    assert found is not None
    assert found.refusals[0].startswith("the head lacks numpy>=99")


def test_the_flags_reach_the_check_and_its_findings_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def check_cluster(*arguments: object) -> Findings:
        calls.append(arguments)
        return Findings(nodes=7)

    monkeypatch.setattr(preflight, "check_cluster", check_cluster)
    assert main([*FLAGS, "--resume", "--workers", "3"]) == 0
    assert calls == [(Path("nowhere.yaml"), "mine", True, 3)]
    assert printed(capsys) == Findings(nodes=7)
