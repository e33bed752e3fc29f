"""Whoever uses a tracking URI has its password; nothing that is shown or kept has it."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.tuner.tiny import events_in, history_of, record, search_journal, search_started, space_of, write_yaml
from trainables.errors import BadInput
from tuner import ui
from tuner.experiment.search_experiment import dump_experiment, load_experiment
from tuner.messages.redaction import reason, redact_logging, without_credentials
from tuner.record.create import new_run
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment
from tuner.reports.search_result import closing_lines, search_result_of

URI = "http://robot:hunter2@host:5000/?access_token=abc123"
SHOWN = "http://host:5000/?access_token=…"


def holds_a_secret(text: str) -> bool:
    return any(secret in text for secret in ("robot", "hunter2", "abc123"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pass@host:1/x failed", "http://host:1/x failed"),
        ("at 'postgresql+psycopg2://u:p@ss@host/db'", "at 'postgresql+psycopg2://host/db'"),
        ("https://token@host", "https://host"),
        ("http://u:p'w@host", "http://host"),
        ("'http://host/?token=a'c': no answer", "'http://host/?token=…': no answer"),
        ("http://host/?access_token=abc&x=1", "http://host/?access_token=…&x=1"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("sqlite+pysqlite:////home/me@work/mlflow.db", "sqlite+pysqlite:////home/me@work/mlflow.db"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dhunter2", "mssql+pyodbc:///?odbc_connect=…"),
        ("postgresql://host/db?user=me&sslpassword=hunter2", "postgresql://host/db?user=me&sslpassword=…"),
        ("models:/digits@champion", "models:/digits@champion"),
    ],
)
def test_credentials_are_taken_out(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


HARMLESS = (
    "Basic training of 6 networks",
    "Bearer authentication is needed",
    "Token authentication is enabled but the authentication token is invalid or incorrect.",
    "num_tokens: 512, max_tokens=5",
    "token: expected a word of the vocabulary, got 'x'",
    "gamma_fe: 0.05, method.alpha=0.5, seed: 7",
    "tokenizer=bert, secretary: ada, keyboard: none",
    "https://host/?experiment=key&page=2#signature",
    "",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_words_are_left_as_they_are(text: str) -> None:
    assert without_credentials(text) == text


SECRET = "s3cr3t-Value/+0123456789"
NAMED = (
    "https://account.blob.core.windows.net/c/b?sv=2024&sig={}&sp=r",
    "https://bucket.s3.amazonaws.com/key?X-Amz-Signature={}&X-Amz-Expires=9",
    "https://bucket.s3.amazonaws.com/key?X-Amz-Credential={}",
    "https://bucket.s3.amazonaws.com/key?X-Amz-Security-Token={}",
    "https://storage.googleapis.com/b/k?X-Goog-Signature={}",
    "https://host/api?key={}&page=2",
    "DefaultEndpointsProtocol=https;AccountName=ours;AccountKey={};EndpointSuffix=core",
    "Endpoint=sb://ours;SharedAccessKeyName=root;SharedAccessKey={}",
    "BlobEndpoint=https://ours/;SharedAccessSignature={}",
    "Server=db;User Id=me;Password={};Timeout=3",
    "Authorization: Bearer {}",
    "{{'Authorization': 'Bearer {}'}}",
    "-H 'X-Api-Key: {}'",
    "401 for Bearer {}",
    '{{"token": "{}", "page": 2}}',
    '{{\\"client_secret\\": \\"{}\\"}}',
    "{{'password': '{}'}}",
    "aws_secret_access_key = {}",
    "password: {}",
    "hub_token: '{}'",
    "export HUGGING_FACE_HUB_TOKEN={}",
    "tool --api-key={} --page=2",
)


@pytest.mark.parametrize("text", NAMED)
def test_a_value_is_known_by_its_name(text: str) -> None:
    shown = without_credentials(text.format(SECRET))
    assert "s3cr3t" not in shown
    assert "0123456789" not in shown
    assert "…" in shown
    assert without_credentials(shown) == shown
    assert ("page" in shown) == ("page" in text)  # what follows is left


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "aB3" * 12,
        "ghp_" + "aB3" * 12,
        "glpat-" + "aB3" * 7,
        "npm_" + "aB3" * 12,
        "pypi-" + "aB3" * 12,
        "dckr_pat_" + "aB3" * 9,
        "AKIA" + "ABCDEFGH01234567",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.abc-DEF_123",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\naC1rZXk\n-----END OPENSSH PRIVATE KEY-----",
    ],
)
def test_a_token_is_known_by_its_form(token: str) -> None:
    assert without_credentials(f"with {token} there is no answer") == "with … there is no answer"


def test_basic_authentication_is_a_name_and_a_password_in_base64() -> None:
    pair = base64.b64encode(b"robot:hunter2").decode()
    assert without_credentials(f"sent Basic {pair} to it") == "sent Basic … to it"


def test_json_is_still_json() -> None:
    text = json.dumps({"token": "abc", "nested": {"AccountKey": "x y"}, "uri": URI, "top1": 0.5})
    assert json.loads(without_credentials(text)) == {
        "token": "…",
        "nested": {"AccountKey": "…"},
        "uri": SHOWN,
        "top1": 0.5,
    }


def test_a_reason_is_one_line_without_credentials() -> None:
    assert reason(ValueError(f"\n  no answer from {URI}\nand more")) == f"no answer from {SHOWN}"
    assert reason(ValueError()) == "ValueError"


def test_the_experiment_has_them_and_its_record_has_not(tmp_path: Path) -> None:
    space = load_experiment(write_yaml(tmp_path, tracking__uri=URI, tracking__directory=str(tmp_path / "experiments")))
    assert space.tracking.uri == URI
    assert not holds_a_secret(dump_experiment(space))
    assert space.as_tree()["tracking"]["uri"] == SHOWN
    recorded = load_experiment(new_run(space).space)
    assert recorded.tracking.uri == SHOWN
    assert recorded.as_tree() == space.as_tree()


def test_the_journal_has_none(tmp_path: Path) -> None:
    space = space_of(tracking__uri=URI)
    with closing(search_journal(tmp_path)) as journal:
        journal.append(search_started(space))
    (event,) = events_in(journal.path)
    assert event["space"]["tracking"]["uri"] == SHOWN
    assert not holds_a_secret(journal.path.read_text())


@pytest.mark.parametrize("scores", [[0.5, 0.75], []])
def test_the_result_has_none(tmp_path: Path, scores: list[float]) -> None:
    params = {"method.gamma_fe": 0.05, "method.alpha": 0.5}
    history = history_of(record(0, scores, "complete" if scores else "failed", params))
    result = search_result_of(space_of(tracking__uri=URI), RunDirectory(tmp_path), history, URI, 1.0)
    assert (result.best_trial is not None) == bool(scores)
    result.write(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["tracking_uri"] == SHOWN
    lines = "\n".join(closing_lines(result, history))
    assert SHOWN in lines
    assert not holds_a_secret(lines)


@pytest.mark.parametrize(
    "given", [["--tracking-uri", URI], [f"--tracking-uri={URI}"], ["--set", f"tracking.uri={URI}"]]
)
def test_the_recorded_command_has_none(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/search", "--space", "a b.yaml", *given, "--resume"])
    command = Environment.here(URI).command
    assert " --space 'a b.yaml' " in command
    assert command.endswith("--resume")
    assert SHOWN in command
    assert not holds_a_secret(command)


def test_the_ui_shows_none_and_its_server_has_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    prepared: list[str] = []
    database = "postgresql://robot:hunter2@host/db"

    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        started.append(command)

    monkeypatch.setattr("tuner.tracking.store.prepare_store", lambda uri, experiment: prepared.append(uri))
    monkeypatch.setattr("tuner.tracking.store.check_is_store", lambda uri, where: None)
    monkeypatch.setattr(ui, "check_port", lambda port: None)
    monkeypatch.setattr("tuner.tracking.ui_views.latest_page", lambda uri: "")
    monkeypatch.setattr("os.execve", execve)
    ui.serve(database, 5000)
    assert prepared == [database]
    assert database in started[0]
    assert capsys.readouterr().out == "http://127.0.0.1:5000/\n"
    with pytest.raises(BadInput) as refused:
        ui.serve(URI, 5000)
    assert not holds_a_secret(str(refused.value))


class TestSecretsOfTheEnvironment:
    @pytest.fixture(autouse=True)
    def environment_with_secrets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-12345678")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws/secret+key")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "x")  # would be found everywhere
        monkeypatch.setenv("AWS_REGION", "eu-central-1")

    def test_their_values_are_taken_out(self) -> None:
        said = without_credentials("403 for Bearer tok-12345678 and aws/secret+key in eu-central-1, max")
        assert said == "403 for Bearer … and … in eu-central-1, max"

    @pytest.mark.parametrize(
        "name",
        ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PGPASSWORD", "WANDB_API_KEY", "OURS_SAS", "MY_SECRET_ACCESS_KEY"],
    )
    def test_a_variable_is_known_by_its_name(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, "plain+words/only")
        assert without_credentials("got plain+words/only") == "got …"
        assert without_credentials("http://host/plain%2Bwords%2Fonly") == "http://host/…"

    @pytest.mark.parametrize("name", ["PWD", "OLDPWD", "HF_TOKEN_PATH", "TOKENIZERS_PARALLELISM", "MY_KEYBOARD"])
    def test_no_other_variable_is_a_secret(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, "plain+words/only")
        assert without_credentials("got plain+words/only") == "got plain+words/only"

    def test_a_file_that_holds_a_secret_is_none(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN", str(tmp_path))
        assert without_credentials(f"in {tmp_path}") == f"in {tmp_path}"

    def test_no_log_record_has_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        factory = logging.getLogRecordFactory()
        written = io.StringIO()
        logger, handler = logging.getLogger("somebody's"), logging.StreamHandler(written)
        logger.addHandler(handler)
        try:
            redact_logging()
            redact_logging()
            logger.warning("at %s with %s", URI, "tok-12345678")
            try:
                raise ValueError(f"no answer from {URI}") from KeyError("aws/secret+key")
            except ValueError:
                logger.exception("it broke off")
        finally:
            logging.setLogRecordFactory(factory)
            logger.removeHandler(handler)
        text = written.getvalue()
        assert f"at {SHOWN} with …" in text
        assert "Traceback" in text
        assert "ValueError: no answer from http://host" in text
        assert not holds_a_secret(text)
        assert "tok-12345678" not in text
        assert "aws/secret+key" not in text
