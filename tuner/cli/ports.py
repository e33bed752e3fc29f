"""Ports of this machine at which a command serves a page."""

from __future__ import annotations

import socket

from trainables.errors import BadInput, Problem, os_reason

HOST = "127.0.0.1"
"""Address that pages are served at: that of this machine, which others cannot reach."""
MAX_PORT = 65535


def check_port(port: int) -> None:
    """Raises BadInput at `--port` if no server can listen at a port of this machine, as where another one does."""
    if not 1 <= port <= MAX_PORT:
        raise BadInput(Problem("--port", f"a port from 1 to {MAX_PORT}", str(port)))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((HOST, port))
        except OSError as error:
            expected = f"a free port, as --port {port + 1 if port < MAX_PORT else port - 1}"
            raise BadInput(Problem("--port", expected, f"{port}: {os_reason(error)}")) from None
