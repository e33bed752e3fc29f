from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from deploy import secrets
from deploy.settings import load_settings
from trainables.errors import BadInput


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(secrets, "ENV_FILE", tmp_path / "deploy" / ".env")
    monkeypatch.setattr(secrets, "TOKEN_FILE", tmp_path / ".ray" / "auth_token")
    return tmp_path


def mode(file: Path) -> str:
    return stat.filemode(file.stat().st_mode)


def test_a_second_run_keeps_passwords_and_takes_new_settings(files: Path) -> None:
    assert secrets.main(["compose"]) == 0
    first = (files / "deploy" / ".env").read_text()
    assert secrets.main(["compose", "--set", "images.tag=0.2.0"]) == 0
    second = (files / "deploy" / ".env").read_text()
    assert second == first.replace(":0.1.0", ":0.2.0") != first
    assert mode(files / "deploy" / ".env") == "-rw-------"


def test_the_token_is_made_once_and_nobody_else_reads_it(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = files / ".ray" / "auth_token"
    assert secrets.main(["token"]) == 0
    made = token.read_text()
    token.chmod(0o644)  # as Ray leaves it
    assert secrets.main(["token"]) == 0
    assert token.read_text() == made
    assert len(made) == 64
    assert mode(token) == "-rw-------"
    assert mode(token.parent) == "drwx------"
    assert made not in capsys.readouterr().out


def test_nothing_is_printed_that_is_not_meant_for_the_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert secrets.main(["kubernetes", "--set", "mlflow.artifacts=/artifacts"]) == 0
    made = list(yaml.safe_load_all(capsys.readouterr().out))
    assert {each["kind"] for each in made} == {"Secret"}
    assert [each["metadata"]["name"] for each in made] == ["smile-tuner-token", "smile-tuner-database"]


def test_keys_of_a_store_that_is_not_made_here_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="AWS_ACCESS_KEY_ID"):
        secrets.kubernetes_secrets(load_settings(), {})
    outside = load_settings(overrides={"mlflow.database_host": "db.lan", "mlflow.artifacts": "/artifacts"})
    with pytest.raises(BadInput, match="PGPASSWORD"):
        secrets.kubernetes_secrets(outside, {})


def test_generated_passwords_differ() -> None:
    given = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    first, second = (secrets.kubernetes_secrets(load_settings(), given) for _ in range(2))
    assert first[:2] != second[:2]
    assert first[2] == second[2]
