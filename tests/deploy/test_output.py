from __future__ import annotations

import json
import time

import pytest

from deploy.output import Output, local_time


def test_text_is_on_stdout_and_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False)
    output.say("a line")
    output.write("part")
    output.finish({"name": "mine"})
    assert tuple(capsys.readouterr()) == ("a line\npart", "")


def test_as_json_stdout_has_one_document_and_text_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.say("a line")
    output.finish([{"name": "mine"}])
    said = capsys.readouterr()
    assert (json.loads(said.out), said.err) == ([{"name": "mine"}], "a line\n")


def test_times_are_local_and_none_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert local_time(1_795_000_000.0) == "2026-11-18 11:06"
    assert local_time(None) == ""
    monkeypatch.undo()
    time.tzset()
