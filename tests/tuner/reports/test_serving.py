"""A page that is served anew as its journal grows."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import add_trial, search_journal
from trainables.errors import BadInput
from tuner.record.directory import RunDirectory
from tuner.record.lock import locked
from tuner.reports import serving
from tuner.reports.serving import LivePage, page_server, serve


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return write_search(tmp_path / "run", why=None)


class Counted:
    """Renders a page that says how often it was rendered."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"<p>rendering {self.count}: ä</p>"


@contextmanager
def served(page: LivePage) -> Iterator[str]:
    with page_server(page, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def read(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def test_it_is_rendered_anew_only_when_something_has_happened(directory: RunDirectory) -> None:
    render = Counted()
    page = LivePage([directory], render)
    assert page.html() == page.html() == "<p>rendering 1: ä</p>"
    with closing(search_journal(directory.path)) as journal:
        add_trial(journal, 9, [0.5])
    assert page.html() == "<p>rendering 2: ä</p>"
    with closing(locked(directory)):
        assert page.html() == "<p>rendering 3: ä</p>"
    assert page.html() == "<p>rendering 4: ä</p>"


def test_it_is_served_to_this_machine(directory: RunDirectory) -> None:
    with served(LivePage([directory], Counted())) as address:
        assert read(f"{address}/") == ("<p>rendering 1: ä</p>", "text/html; charset=utf-8")
        with pytest.raises(urllib.error.HTTPError, match="404") as missing:
            read(f"{address}/journal.jsonl")
        missing.value.close()


def test_a_page_that_cannot_be_made_says_why_and_is_asked_for_again(directory: RunDirectory) -> None:
    with served(LivePage([directory], Counted())) as address:
        directory.journal.unlink()
        with pytest.raises(urllib.error.HTTPError, match="503") as failed:
            read(f"{address}/")
        assert "There is no page: FileNotFoundError" in failed.value.read().decode()
        assert failed.value.headers["Refresh"] == "30"
        failed.value.close()


def test_a_taken_port_and_one_that_is_none_are_bad_input(directory: RunDirectory) -> None:
    page = LivePage([directory], Counted())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            BadInput, match=f"--port: expected a free port, as --port 8001, got {port}: address already"
        ):
            page_server(page, port)
    with pytest.raises(BadInput, match="got 70000: "):
        page_server(page, 70000)


def test_ctrl_c_ends_it_quietly(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(server: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serving.ThreadingHTTPServer, "serve_forever", interrupted)
    serve(LivePage([directory], Counted()), 0)
    out, err = capsys.readouterr()
    assert out.startswith("http://127.0.0.1:")
    assert out.endswith("  (Ctrl-C ends it)\n")
    assert err == ""
