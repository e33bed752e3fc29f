"""A Ray cluster of one command on this machine: closed to the network and to other users.

It listens on the loopback interface, admits only who has its token, and keeps its sockets in a folder of this user. The
token is new for each cluster, and is in the environment of its processes alone: with Ray's default, one token serves
all clusters of a user for ever, in a file that others may read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainables.errors import BadInput, Problem, os_reason
from tuner.cluster.process_state import environment_set

TOKEN_BYTES = 32

SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a Unix socket."""
LONGEST_SOCKET = "session_2026-11-29_18-02-37_123456_4194304/sockets/plasma_store.10"
"""Longest path of a socket within Ray's folder."""
MAX_FOLDER_BYTES = SOCKET_PATH_BYTES - len(LONGEST_SOCKET) - 1

FALLBACK_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
"""Used if the folder of RAY_TMPDIR or TMPDIR is unfit for sockets."""


@contextlib.contextmanager
def local_ray() -> Iterator[dict[str, Any]]:
    """Prepares this process to start a Ray cluster of its own in the block; yields options of `ray.init`.

    Within it, `ray` starts and joins that cluster alone; after it, whatever the environment says.

    Raises:
        BadInput: if no folder is fit for Ray's sockets.
    """
    options = {"address": "local", "_temp_dir": str(ray_folder())}
    try:
        with environment_set({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(TOKEN_BYTES)}):
            _read_token()
            with _loopback_only():
                yield options
    finally:
        _read_token()


def ray_folder() -> Path:
    """Finds the folder for Ray's sockets, logs and spilled objects, below one that only this user can enter.

    Ray lets everybody write to its own. It is below RAY_TMPDIR or TMPDIR, or else where there is room for a socket's
    path; the folder of this user is made if need be.

    Raises:
        BadInput: with what is wrong with each folder, if none is fit.
    """
    given = (os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"))
    reasons = []
    for root in dict.fromkeys(filter(None, (*given, *FALLBACK_FOLDERS))):
        private = Path(root).absolute() / f"ray-{os.getuid()}"
        folder = private / "ray"
        num_bytes = len(os.fsencode(folder))
        reason = f"a path of {num_bytes} bytes" if num_bytes > MAX_FOLDER_BYTES else _unfit(private)
        if reason is None:
            return folder
        reasons.append(f"{private}: {reason}")
    expected = (
        f"a folder for Ray's sockets: one that this user can write, with a path of at most {MAX_FOLDER_BYTES} bytes"
    )
    raise BadInput(Problem("TMPDIR", expected, "; ".join(reasons)))


def _unfit(folder: Path) -> str | None:
    """Returns why `folder`, which is made if need be, cannot be this user's alone; None if it is."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid != os.getuid():
            return "owned by another user"
        if folder.is_symlink():
            return "a symbolic link"
        folder.chmod(0o700)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return os_reason(error)


def _read_token() -> None:
    """Has Ray's client read mode and token from the environment, of which it would keep what it read first."""
    from ray import _raylet

    raylet: Any = _raylet  # of C++, without types
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _loopback_only() -> Iterator[None]:
    """Has Ray take 127.0.0.1 for this machine's address in the block, so that its servers listen there alone.

    Ray does so where it is told not to form clusters, as on macOS; it reads that when it is imported.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    variable = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}  # for the processes that Ray starts
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with environment_set(variable):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
