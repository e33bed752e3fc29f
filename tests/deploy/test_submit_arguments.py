from __future__ import annotations

import pytest

from deploy import submit
from deploy.submit_arguments import job_parser, submit_parser


def test_the_defaults_follow_a_new_job_on_this_machines_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    arguments = submit_parser("").parse_args(["--space", "x.yaml"])
    assert (arguments.address, arguments.follow, arguments.dry_run) == ("http://127.0.0.1:8265", True, False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265")
    assert submit_parser("").parse_args(["--space", "x.yaml"]).address == "http://head:8265"


def test_a_job_is_new_or_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        submit_parser("").parse_args(["--space", "x.yaml", "--name", "a", "--resume", "b"])
    assert "not allowed with" in capsys.readouterr().err


def test_the_help_has_the_commands_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        submit_parser(submit.__doc__ or "").parse_args(["--help"])
    assert "python -m deploy.submit list --address …" in capsys.readouterr().out


@pytest.mark.parametrize("verb", submit.VERBS)
def test_every_verb_has_a_description_and_only_list_no_name(verb: str) -> None:
    description = submit.VERBS[verb].__doc__
    assert description
    words = [] if verb == "list" else ["mine"]
    assert job_parser(verb, description).parse_args(words).wait_s == 30.0
    with pytest.raises(SystemExit):
        job_parser(verb, description).parse_args([] if words else ["mine"])
