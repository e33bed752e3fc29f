"""A page served to this machine alone, rendered anew whenever the journals that it is made of have grown."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from trainables.errors import BadInput, Problem, os_reason
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import one_line
from tuner.record.directory import RunDirectory
from tuner.record.lock import holder_of
from tuner.reports.page_templates import REFRESH_S

HOST = "127.0.0.1"
"""Address that the page is served at: that of this machine, which others cannot reach."""


class LivePage:
    """The page about some runs; `render` is called only if their journals, or whether they run, have changed."""

    def __init__(self, directories: Sequence[RunDirectory], render: Callable[[], str]) -> None:
        self._directories = directories
        self._render = render
        self._lock = threading.Lock()
        self._state: object = None
        self._html = ""

    def html(self) -> str:
        """Returns the page as it is now. Raises what `render` raises, and OSError."""
        with self._lock:
            state = [self._state_of(directory) for directory in self._directories]
            if state != self._state:
                self._html = self._render()
                self._state = state
            return self._html

    @staticmethod
    def _state_of(directory: RunDirectory) -> tuple[int, int, bool]:
        journal = directory.journal.stat()
        return journal.st_size, journal.st_mtime_ns, holder_of(directory) is not None


def page_server(page: LivePage, port: int) -> ThreadingHTTPServer:
    """Makes a server of the page at `port` of this machine, 0 for any that is free.

    Raises:
        BadInput: if the port is taken or is none.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                status, kind, text = HTTPStatus.OK, "text/html", page.html()
            except (BadInput, OSError) as error:  # as of a run that is being removed, or has not begun
                text = f"There is no page: {without_credentials(one_line(error))}\n"
                status, kind = HTTPStatus.SERVICE_UNAVAILABLE, "text/plain"
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            if status is not HTTPStatus.OK:
                self.send_header("Refresh", str(REFRESH_S))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the browser has left
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Prints nothing."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        got = f"{port}: {os_reason(error) if isinstance(error, OSError) else error}"
        raise BadInput(Problem("--port", "a free port, as --port 8001", got)) from None


def serve(page: LivePage, port: int) -> None:
    """Serves the page until Ctrl-C, after its address is printed. Raises as `page_server` and `LivePage.html`."""
    with page_server(page, port) as server:
        page.html()  # what cannot be rendered is said here, not in the browser
        print(f"http://{HOST}:{server.server_port}  (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
